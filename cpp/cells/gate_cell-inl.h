// Scores of experts from their logits, and the derivatives:
//     softmax        exp(x - shift), to be divided by the sum over experts (Shazeer et al., 2017)
//     sigmoid        1 / (1 + exp(-x))            (DeepSeek-V3, 2024, arXiv:2412.19437)
//     sqrt_softplus  sqrt(log(1 + exp(x)))
// M is a vector arithmetic: cpu/simd_math-inl.h.

// Per-target include guard
#if defined(SEQREC_CELLS_GATE_CELL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_GATE_CELL_INL_H_
#undef SEQREC_CELLS_GATE_CELL_INL_H_
#else
#define SEQREC_CELLS_GATE_CELL_INL_H_
#endif

#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

struct SoftmaxScore {
    static constexpr bool kSumsOverExperts = true;
    template <class M, class V = typename M::V>
    static SEQREC_FN V apply(V x, V shift) {
        return M::exp_of_negative(M::sub(x, shift));
    }
    // ds/dx for s = apply(x)
    template <class M, class V = typename M::V>
    static SEQREC_FN V grad(V, V s) {
        return s;
    }
};

struct SigmoidScore {
    static constexpr bool kSumsOverExperts = false;
    template <class M, class V = typename M::V>
    static SEQREC_FN V apply(V x, V) {
        // In exp(-|x|), so that small scores are as exact as large ones, down to 0.
        const V e = M::exp_of_negative(M::sub(M::set(0), M::abs(x)));
        const V one = M::set(1);
        return M::div(M::add(e, M::zero_unless_positive(x, M::sub(one, e))), M::add(one, e));
    }
    template <class M, class V = typename M::V>
    static SEQREC_FN V grad(V, V s) {
        return M::neg_mul_add(s, s, s);
    }
};

// Where softplus(x) is exp(x) its root is exp(x / 2), which does not vanish as soon as it.
struct SqrtSoftplusScore {
    static constexpr bool kSumsOverExperts = false;
    template <class M, class V = typename M::V>
    static SEQREC_FN V apply(V x, V) {
        const V root = M::exp_of_negative(M::mul(M::set(-0.5), M::abs(x)));
        const V score = M::sqrt(M::add(M::relu(x), M::log1p(M::mul(root, root))));
        return unless_small<M>(x, score, root);
    }
    template <class M, class V = typename M::V>
    static SEQREC_FN V grad(V x, V s) {
        const V slope = M::zero_unless_positive(s, M::div(M::sigmoid(x), M::add(s, s)));
        return unless_small<M>(x, slope, M::mul(M::set(0.5), s));
    }

  private:
    template <class M, class V = typename M::V>
    static SEQREC_FN V unless_small(V x, V value, V where_small) {
        const V above = M::add(x, M::set(60));
        return M::add(M::zero_unless_positive(above, value),
                      M::sub(where_small, M::zero_unless_positive(above, where_small)));
    }
};

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
