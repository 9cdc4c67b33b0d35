// Long short-term memory (Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al.,
// 2000), in PyTorch's form:
//     i, f, o = sigmoid(sum)   g = tanh(sum)   c' = f c + i g   h' = o tanh(c')
// M is a vector arithmetic: cpu/simd_math-inl.h.

// Per-target include guard
#if defined(SEQREC_CELLS_LSTM_CELL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_LSTM_CELL_INL_H_
#undef SEQREC_CELLS_LSTM_CELL_INL_H_
#else
#define SEQREC_CELLS_LSTM_CELL_INL_H_
#endif

#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

template <class M, class V = typename M::V>
struct LstmGates {
    V i, f, g, o, c;
};

// c', where g is multiplied by `scale`.
template <class M, class V = typename M::V>
SEQREC_FN V lstm_cell_state(V i, V f, V g, V c, V scale) {
    return M::mul_add(f, c, M::mul(i, M::mul(scale, g)));
}

// From the sums of the four gates and the state before.
template <class M, class V = typename M::V>
SEQREC_FN LstmGates<M> lstm_gates(V i_sum, V f_sum, V g_sum, V o_sum, V c, V scale) {
    LstmGates<M> gates;
    gates.i = M::sigmoid(i_sum);
    gates.f = M::sigmoid(f_sum);
    gates.g = M::tanh(g_sum);
    gates.o = M::sigmoid(o_sum);
    gates.c = lstm_cell_state<M>(gates.i, gates.f, gates.g, c, scale);
    return gates;
}

// h' from o and c'.
template <class M, class V = typename M::V>
SEQREC_FN V lstm_output(V o, V c) {
    return M::mul(o, M::tanh(c));
}

// Gradients with respect to the four sums and to the cell state before.
template <class M, class V = typename M::V>
struct LstmGrad {
    V i_pre, f_pre, g_pre, o_pre, c;
};

// `c_before` and `c` are the cell states before and after the step; dh and dc the gradients of the
// loss with respect to h' and (through later steps) c'.
template <class M, class V = typename M::V>
SEQREC_FN LstmGrad<M> lstm_step_grad(V i, V f, V g, V o, V c_before, V c, V dh, V dc, V scale) {
    const V one = M::set(1);
    const V tanh_c = M::tanh(c);
    const V dh_o = M::mul(dh, o);
    const V dc_all = M::mul_add(dh_o, M::neg_mul_add(tanh_c, tanh_c, one), dc);
    LstmGrad<M> grad;
    grad.o_pre = M::mul(M::mul(M::mul(dh, tanh_c), o), M::sub(one, o));
    grad.i_pre = M::mul(M::mul(M::mul(dc_all, M::mul(scale, g)), i), M::sub(one, i));
    grad.f_pre = M::mul(M::mul(M::mul(dc_all, c_before), f), M::sub(one, f));
    grad.g_pre = M::mul(M::mul(M::mul(dc_all, scale), i), M::neg_mul_add(g, g, one));
    grad.c = M::mul(dc_all, f);
    return grad;
}

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
