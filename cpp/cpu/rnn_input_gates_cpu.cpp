// Input gates of many rows as one product on the CPU, for every target: those of a chunk of events,
// or of a whole catalogue.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rnn_input_gates_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/dot_product-inl.h"
#include "cpu/rnn_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Writes a row's product plus bias in vector order: the input gates.
template <class T>
struct InputGatesOp {
    const T* bias;
    T* out;
    std::int64_t stride;
    std::int64_t vectors_per_part;

    InputGatesOp part(std::int64_t i) const {
        const std::int64_t offset = i * vectors_per_part * kPackedLanes<T>;
        return {bias + offset, out + offset, stride, vectors_per_part};
    }
    HWY_INLINE SumsStart<T> start() const { return {nullptr, 0, 0, bias}; }
    template <int kVectors>
    HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                           const hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        T* to = out + row * stride + lane;
        for (int v = 0; v < kVectors; ++v) {
            hn::StoreU(acc[v], Lanes<T>(), to + v * kPackedLanes<T>);
        }
    }
};

template <class T>
void input_gates(const RnnInputGatesArgs<T>& args) {
    const PackedRnn<T>& weights = *args.weights;
    const InputGatesOp<T> op{weights.input_bias.data(), args.out,
                             weights.n_vectors() * kPackedLanes<T>, weights.gates};
    const auto multiply = [&](auto gates) {
        multiply_gates<decltype(gates)::value>(op, args.x, args.rows, weights.input_size,
                                               weights.input, RowRange::dynamic);
    };
    switch (weights.gates) {
        case 4: return multiply(std::integral_constant<int, 4>());
        case 3: return multiply(std::integral_constant<int, 3>());
        default:
            return multiply_plain(op, args.x, args.rows, weights.input_size, weights.input,
                                  RowRange::dynamic);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {

SEQREC_DISPATCH_FLOATS(rnn_input_gates_cpu, input_gates, RnnInputGatesArgs)

template <class T>
void rnn_input_gates_table_cpu(const RnnInputGatesArgs<T>& args) {
    constexpr std::int64_t kRows = 48;  // stay in L1 beside a panel
    const std::int64_t width = args.weights->n_vectors() * kPackedLanes<T>;
    parallel_for((args.rows + kRows - 1) / kRows, [&](std::int64_t i) {
        const DotSession session(dot_type(args.weights->precision));
        const std::int64_t first = i * kRows;
        rnn_input_gates_cpu<T>({args.weights, args.x + first, std::min(kRows, args.rows - first),
                                args.out + first * width});
    });
}

template void rnn_input_gates_table_cpu(const RnnInputGatesArgs<float>& args);
template void rnn_input_gates_table_cpu(const RnnInputGatesArgs<double>& args);

}  // namespace seqrec_fast
#endif  // HWY_ONCE
