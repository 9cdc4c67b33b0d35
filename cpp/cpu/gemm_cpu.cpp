// The register tiles of all products but those that select, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gemm_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "cpu/gemm-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template void group_sums<1>(const GroupProduct<float>&, float*);
template void group_sums<2>(const GroupProduct<float>&, float*);
template void group_sums<3>(const GroupProduct<float>&, float*);
template void group_sums<4>(const GroupProduct<float>&, float*);
template void group_sums<1>(const GroupProduct<double>&, double*);
template void group_sums<2>(const GroupProduct<double>&, double*);
template void group_sums<3>(const GroupProduct<double>&, double*);
template void group_sums<4>(const GroupProduct<double>&, double*);

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();
