// The soft cap of logits, cap * tanh(x / cap) (Gemma 2, 2024, arXiv:2408.00118), and its
// derivative. M is a vector arithmetic: cpu/simd_math-inl.h.

// Per-target include guard
#if defined(SEQREC_CELLS_SOFT_CAP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_SOFT_CAP_INL_H_
#undef SEQREC_CELLS_SOFT_CAP_INL_H_
#else
#define SEQREC_CELLS_SOFT_CAP_INL_H_
#endif

#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

struct SoftCap {
    template <class M, class V = typename M::V>
    static SEQREC_FN V apply(V x, V cap) {
        return M::mul(cap, M::tanh(M::div(x, cap)));
    }
    // dy/dx for y = apply(x)
    template <class M, class V = typename M::V>
    static SEQREC_FN V grad(V y, V cap) {
        const V ratio = M::div(y, cap);
        return M::neg_mul_add(ratio, ratio, M::set(1));
    }
};

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
