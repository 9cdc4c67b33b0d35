// Dot product of two rows.

// Per-target include guard
#if defined(SEQREC_CPU_ROW_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_ROW_DOT_INL_H_
#undef SEQREC_CPU_ROW_DOT_INL_H_
#else
#define SEQREC_CPU_ROW_DOT_INL_H_
#endif

#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Two sums, so that a row of some vectors does not wait for each product.
template <class T>
HWY_INLINE T row_dot(const T* a, const T* b, std::int64_t dim) {
    constexpr std::int64_t kLanes = lane_count<T>();
    const Lanes<T> d;
    auto even = hn::Zero(d), odd = hn::Zero(d);
    std::int64_t i = 0;
    for (; i + 2 * kLanes <= dim; i += 2 * kLanes) {
        even = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), even);
        odd = hn::MulAdd(hn::LoadU(d, a + i + kLanes), hn::LoadU(d, b + i + kLanes), odd);
    }
    for (; i < dim; i += kLanes) {
        even = hn::MulAdd(load_part(d, a + i, dim - i), load_part(d, b + i, dim - i), even);
    }
    return hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
