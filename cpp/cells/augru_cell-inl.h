// GRUs whose update is weighed by an attention score a of the event. With r, z, n of PyTorch's GRU
// (gru_cell-inl.h):
//     augru_paper   h' = h + a (1 - z) (n - h), a step of a GRU taken a part of the way
//     augru_tf      h' = n + (1 - a) z (h - n), a scales the gate that keeps the state
//     agru          h' = h + a (n - h), a in place of the update gate
// augru_paper and agru are formulas of DIEN (Zhou et al., 2019, arXiv:1809.03672), augru_tf is what
// TensorFlow's VecAttGRUCell and oneDNN's AUGRU compute. With a = 0 the first and the last leave
// the state as it is, and augru_tf is a GRU, to the bit.
// M is a vector arithmetic: cpu/simd_math-inl.h.

// Per-target include guard
#if defined(SEQREC_CELLS_AUGRU_CELL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_AUGRU_CELL_INL_H_
#undef SEQREC_CELLS_AUGRU_CELL_INL_H_
#else
#define SEQREC_CELLS_AUGRU_CELL_INL_H_
#endif

#include "cells/cell_kind.h"
#include "cells/gru_cell-inl.h"
#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

// What h' = update n + keep h has of both, update + keep being 1, and the derivatives of keep.
// The update of augru_paper, tiny where scores are a softmax over a long sequence, is a product and
// not 1 - keep, which would leave few of its digits.
template <class M, class V = typename M::V>
struct AttentionMix {
    V update, keep, keep_by_z, keep_by_a;
};

// The cells are told apart at run time, here and below: time loops of their own would be three
// times the code, and the product takes a step's time.
template <class M, class V = typename M::V>
SEQREC_FN AttentionMix<M> attention_mix(CellKind kind, V z, V a) {
    const V one = M::set(1);
    switch (kind) {
        case CellKind::augru_paper: {
            const V update = M::mul(a, M::sub(one, z));
            return {update, M::sub(one, update), a, M::sub(z, one)};
        }
        case CellKind::augru_tf: {
            const V rest = M::sub(one, a);
            const V keep = M::mul(rest, z);
            return {M::sub(one, keep), keep, rest, M::sub(M::set(0), z)};
        }
        default: return {a, M::sub(one, a), M::set(0), M::set(-1)};
    }
}

template <class M, class V = typename M::V>
SEQREC_FN V attention_blend(CellKind kind, V z, V n, V h, V a) {
    const V one = M::set(1);
    switch (kind) {
        case CellKind::augru_paper: return M::mul_add(M::mul(a, M::sub(one, z)), M::sub(n, h), h);
        case CellKind::augru_tf: return gru_blend<M>(M::mul(M::sub(one, a), z), n, h);
        default: return M::mul_add(a, M::sub(n, h), h);
    }
}

// As gru_blend_grad; `attention` is this unit's part of dloss/da.
template <class M, class V = typename M::V>
struct AttentionGrad : GruGrad<M> {
    V attention;
};

template <class M, class V = typename M::V>
SEQREC_FN AttentionGrad<M> attention_blend_grad(CellKind kind, V z, V n, V h, V dh, V scale, V a) {
    const V one = M::set(1);
    const AttentionMix<M> mix = attention_mix<M>(kind, z, a);
    const V keep_grad = M::mul(dh, M::sub(h, M::mul(scale, n)));
    AttentionGrad<M> grad;
    grad.z_pre = M::mul(M::mul(M::mul(keep_grad, mix.keep_by_z), z), M::sub(one, z));
    grad.n_pre = M::mul(M::mul(M::mul(dh, mix.update), scale), M::neg_mul_add(n, n, one));
    grad.h = M::mul(dh, mix.keep);
    grad.attention = M::mul(keep_grad, mix.keep_by_a);
    return grad;
}

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
