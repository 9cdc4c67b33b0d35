// The gated recurrent unit (Cho et al., 2014, arXiv:1406.1078), in PyTorch's form:
//     r = sigmoid(x_r + h_r)      z = sigmoid(x_z + h_z)
//     n = tanh(x_n + r * h_n)     h' = n + z (h - n)
// where x_* = W_ih x + b_ih and h_* = W_hh h + b_hh. In the reset-before form of the original
// paper, h_n is W_hn (r * h) + b_hn instead, and is not multiplied by r again.
// M is a vector arithmetic: cpu/simd_math-inl.h.

// Per-target include guard
#if defined(SEQREC_CELLS_GRU_CELL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_GRU_CELL_INL_H_
#undef SEQREC_CELLS_GRU_CELL_INL_H_
#else
#define SEQREC_CELLS_GRU_CELL_INL_H_
#endif

#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

// What n is the tanh of.
template <class M, class V = typename M::V>
SEQREC_FN V gru_candidate_sum(V x_n, V h_n, V r) {
    return M::mul_add(r, h_n, x_n);
}

// n from the sums of its two parts.
template <class M, class V = typename M::V>
SEQREC_FN V gru_candidate(V x_n, V h_n, V r) {
    return M::tanh(gru_candidate_sum<M>(x_n, h_n, r));
}

template <class M, class V = typename M::V>
SEQREC_FN V gru_blend(V z, V n, V h) {
    return M::mul_add(z, M::sub(h, n), n);
}

// Gradients of one step, given dh = dloss/dh', where n was multiplied by `scale` before the blend.
// `n_pre` and the others are with respect to the sums inside the non-linearities; `h` is the part
// of dloss/dh that does not go through a matrix.
template <class M, class V = typename M::V>
struct GruGrad {
    V z_pre, n_pre, h;
};

template <class M, class V = typename M::V>
SEQREC_FN GruGrad<M> gru_blend_grad(V z, V n, V h, V dh, V scale) {
    const V one = M::set(1);
    GruGrad<M> grad;
    const V dh_z = M::mul(dh, z);
    grad.z_pre = M::mul(M::mul(dh_z, M::sub(one, z)), M::sub(h, M::mul(scale, n)));
    grad.n_pre = M::mul(M::mul(M::sub(dh, dh_z), scale), M::neg_mul_add(n, n, one));
    grad.h = dh_z;
    return grad;
}

// dloss/d(sum inside the reset gate), given dloss/dr.
template <class M, class V = typename M::V>
SEQREC_FN V gru_reset_grad(V r, V dr) {
    return M::mul(M::mul(dr, r), M::sub(M::set(1), r));
}

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
