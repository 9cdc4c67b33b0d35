// Backward of the GRUs with attention on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/augru_backward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cpu/gru_backward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
void augru_backward(const RnnBackwardArgs<T>& args) {
    run_backward(args, &cell_step_grad<GruGradCell<CellKind::augru_paper>, T>);
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(augru_backward_cpu, augru_backward, RnnBackwardArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
