// The vanilla recurrent network (Elman, 1990): h' = activation(W_ih x + b_ih + W_hh h + b_hh) with
// tanh or relu. The gradient needs only h'. M is a vector arithmetic: cpu/simd_math-inl.h.

// Per-target include guard
#if defined(SEQREC_CELLS_RNN_CELL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_RNN_CELL_INL_H_
#undef SEQREC_CELLS_RNN_CELL_INL_H_
#else
#define SEQREC_CELLS_RNN_CELL_INL_H_
#endif

#include "cells/cell_kind.h"
#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

// The activation, from h' = scale * activation after zoneout kept `keep` of the state before. Where
// nothing of it is left, its gradient is 0 too. What rounding leaves of a ReLU's zero, up to
// `rounding` of what was kept, must not look like a positive value.
template <class M, class V = typename M::V>
SEQREC_FN V rnn_activation(V h, V h_before, V keep, V scale, V rounding) {
    const V kept = M::mul(keep, h_before);
    const V rest = M::sub(h, kept);
    const V beyond = M::sub(M::abs(rest), M::mul(rounding, M::abs(kept)));
    const V all = M::mul(scale, M::sub(M::set(1), keep));
    return M::zero_unless_positive(all, M::div(M::zero_unless_positive(beyond, rest), all));
}

template <class M, class V = typename M::V>
SEQREC_FN V rnn_activate(CellKind kind, V sum) {
    return kind == CellKind::rnn_relu ? M::relu(sum) : M::tanh(sum);
}

// dloss/dsum, given the activation and dloss/dactivation.
template <class M, class V = typename M::V>
SEQREC_FN V rnn_activate_grad(CellKind kind, V h, V dh) {
    return kind == CellKind::rnn_relu ? M::zero_unless_positive(h, dh)
                                      : M::mul(dh, M::neg_mul_add(h, h, M::set(1)));
}

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
