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

// A register tile of one block of terms, k0 to k0 + depth. `lane` is where this target's vector
// lies inside the packed vector.
template <int kRows, int kSlices, int kVectors, class T>
HWY_INLINE void block_tile(const GroupProduct<T>& product, std::int64_t row, std::int64_t lane,
                           std::int64_t k0, std::int64_t depth, T* sums) {
    constexpr std::int64_t kLanes = lane_count<T>();
    const Lanes<T> d;
    hn::Vec<Lanes<T>> acc[kRows][kSlices][kVectors];
    if (k0 == 0) {
        product.start.load(row, lane, acc);
    } else {
        SumsStart<T>().load(row, lane, acc);
    }
    const std::int64_t step = product.part.step;
    multiply_add(d, product.rows + row, product.row_step, product.panel + lane + k0 * step, step,
                 k0, depth, acc);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int s = 0; s < kSlices; ++s) {
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) {
                T* sum = sums + ((lane / kLanes + s) * kGroupRows + row + r) * kVectors * kLanes +
                         v * kLanes;
                hn::Store(k0 == 0 ? acc[r][s][v] : hn::Add(acc[r][s][v], hn::Load(d, sum)), d, sum);
            }
        }
    }
}

// Block by block.
template <int kVectors, class T>
void group_sums(const GroupProduct<T>& product, T* sums) {
    for (std::int64_t k = 0; k == 0 || k < product.depth; k += kDepthBlock) {
        const std::int64_t terms = std::min(product.depth - k, kDepthBlock);
        for_each_tile<kVectors, T>(
            product.n_rows, product.part,
            [&](auto rows, auto slices, std::int64_t row, std::int64_t lane) {
                block_tile<decltype(rows)::value, decltype(slices)::value, kVectors>(
                    product, row, lane, k, terms, sums);
            });
    }
}

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
