// The vanilla recurrent network (Elman, 1990): h' = activation(W_ih x + b_ih + W_hh h + b_hh) with
// tanh or relu. The gradient needs only h'. M is a vector arithmetic: cpu/simd_math-inl.h.

// Per-target include guard
#if defined(SEQREC_CELLS_RNN_CELL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_RNN_CELL_INL_H_
#undef SEQREC_CELLS_RNN_CELL_INL_H_
#else
#define SEQREC_CELLS_RNN_CELL_INL_H_
#endif

#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

struct TanhActivation {
    template <class M, class V = typename M::V>
    static SEQREC_FN V apply(V sum) {
        return M::tanh(sum);
    }
    // dloss/dsum, given h' and dloss/dh'.
    template <class M, class V = typename M::V>
    static SEQREC_FN V grad(V h, V dh) {
        return M::mul(dh, M::neg_mul_add(h, h, M::set(1)));
    }
};

struct ReluActivation {
    template <class M, class V = typename M::V>
    static SEQREC_FN V apply(V sum) {
        return M::relu(sum);
    }
    template <class M, class V = typename M::V>
    static SEQREC_FN V grad(V h, V dh) {
        return M::zero_unless_positive(h, dh);
    }
};

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
