// A table of input gates on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rnn_input_gates_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/rnn_input_gates-inl.h"
#include "cpu/rnn_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
void input_gates_table(const RnnInputGatesArgs<T>& args) {
    constexpr std::int64_t kRows = 48;  // stay in L1 beside a panel
    const PackedRnn<T>& weights = *args.weights;
    parallel_for((args.rows + kRows - 1) / kRows, [&](std::int64_t i) {
        const DotSession session(dot_type(weights.precision));
        const std::int64_t first = i * kRows, n = std::min(kRows, args.rows - first);
        T* out = args.out + first * weights.n_vectors() * kPackedLanes<T>;
        switch (weights.gates) {
            case 4: return input_gates<4>(weights, args.x + first, n, out);
            case 3: return input_gates<3>(weights, args.x + first, n, out);
            default: return input_gates<1>(weights, args.x + first, n, out);
        }
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(rnn_input_gates_cpu, input_gates_table, RnnInputGatesArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
