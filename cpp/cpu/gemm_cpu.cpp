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
    multiply_add(d, product.rows + row, product.row_step, product.panel + lane + k0 * step, kLanes,
                 step, k0, depth, acc);
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

template <int kVectors, class T>
void row_sums(const GroupProduct<T>& product, const GroupProduct<T>& next, T* sums) {
    const Lanes<T> d;
    const GroupProduct<T>* const both[2] = {&product, &next};
    const std::int64_t step = product.part.step;
    for (std::int64_t k = 0; k == 0 || k < product.depth; k += kDepthBlock) {
        hn::Vec<Lanes<T>> acc[1][2][kVectors];
        for (int panel = 0; panel < 2; ++panel) {
            hn::Vec<Lanes<T>> start[1][1][kVectors];
            (k == 0 ? both[panel]->start : SumsStart<T>()).load(0, 0, start);
            std::copy_n(start[0][0], kVectors, acc[0][panel]);
        }
        multiply_add(d, product.rows, product.row_step, product.panel + k * step,
                     next.panel - product.panel, step, k, std::min(product.depth - k, kDepthBlock),
                     acc);
        for (int panel = 0; panel < 2; ++panel) {
            for (int v = 0; v < kVectors; ++v) {
                T* sum = sums + panel * step + v * kPackedLanes<T>;
                const auto value = acc[0][panel][v];
                hn::Store(k == 0 ? value : hn::Add(value, hn::Load(d, sum)), d, sum);
            }
        }
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
#if HWY_TARGET == HWY_AVX3
template void row_sums<2>(const GroupProduct<float>&, const GroupProduct<float>&, float*);
template void row_sums<3>(const GroupProduct<float>&, const GroupProduct<float>&, float*);
template void row_sums<4>(const GroupProduct<float>&, const GroupProduct<float>&, float*);
template void row_sums<2>(const GroupProduct<double>&, const GroupProduct<double>&, double*);
template void row_sums<3>(const GroupProduct<double>&, const GroupProduct<double>&, double*);
template void row_sums<4>(const GroupProduct<double>&, const GroupProduct<double>&, double*);
#endif

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();
