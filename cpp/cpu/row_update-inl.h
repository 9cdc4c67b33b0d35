// What optimisers do to one row of a table.

// Per-target include guard
#if defined(SEQREC_CPU_ROW_UPDATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_ROW_UPDATE_INL_H_
#undef SEQREC_CPU_ROW_UPDATE_INL_H_
#else
#define SEQREC_CPU_ROW_UPDATE_INL_H_
#endif

#include <algorithm>

#include "cells/row_update_cell-inl.h"
#include "cpu/row_update_kernels.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Elements of a state from k on.
template <class T>
struct RowState {
    T* state;  // null without it, and then not read
    std::int64_t at, left;

    HWY_INLINE hn::Vec<Lanes<T>> load() const { return load_part(Lanes<T>(), state + at, left); }
    HWY_INLINE void store(hn::Vec<Lanes<T>> v) const {
        store_part(v, Lanes<T>(), state + at, left);
    }
};

// `row` of `table` after a step against `gradient` (dim).
template <class T>
void update_row(const RowUpdate<T>& update, T* table, std::int64_t row, std::int64_t dim,
                const T* gradient) {
    const Lanes<T> d;
    const RowUpdateCell<SimdMath<Lanes<T>>> cell(RowUpdateFactors<T>{update});
    const std::int64_t first = row * dim;
    for (std::int64_t k = 0; k < dim; k += lane_count<T>()) {
        const std::int64_t n = dim - k, at = first + k;
        const RowState<T> mean{update.mean, at, n}, square{update.square, at, n};
        const auto value = load_part(d, table + at, n);
        const auto g = load_part(d, gradient + k, n);
        store_part(cell.apply(value, g, mean, square), d, table + at, n);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
