// Forward of the GRUs with attention on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/augru_forward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cpu/gru_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
void augru_forward(const RnnForwardArgs<T>& args) {
    run_forward(args, &GruCell</*kAttention=*/true>::template step<T>);
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(augru_forward_cpu, augru_forward, RnnForwardArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
