// What optimisers do to a row of a table, element by element:
//     sgd      step = -lr g
//     adagrad  square += g^2;  step = -lr g / sqrt(square + eps)
//     adam     Kingma & Ba, 2015 (arXiv:1412.6980), with the bias corrections of the whole table
// With momentum the steps of sgd and adagrad are mean = momentum * mean + step.
// M is a vector arithmetic: cpu/simd_math-inl.h.

// Per-target include guard
#if defined(SEQREC_CELLS_ROW_UPDATE_CELL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_ROW_UPDATE_CELL_INL_H_
#undef SEQREC_CELLS_ROW_UPDATE_CELL_INL_H_
#else
#define SEQREC_CELLS_ROW_UPDATE_CELL_INL_H_
#endif

#include "cells/row_update.h"
#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

// `mean` and `square` have load() and store(V); only what the rule has is touched.
template <class M>
class RowUpdateCell {
  public:
    using V = typename M::V;

    template <class T>
    SEQREC_FN explicit RowUpdateCell(const RowUpdateFactors<T>& factors)
        : rule_(factors.rule),
          has_momentum_(factors.has_momentum),
          minus_lr_(M::set(factors.minus_lr)),
          kept_(M::set(factors.kept)),
          momentum_(M::set(factors.momentum)),
          eps_(M::set(factors.eps)),
          share_1_(M::set(factors.share_1)),
          share_2_(M::set(factors.share_2)),
          correction_1_(M::set(factors.correction_1)),
          correction_2_(M::set(factors.correction_2)) {}

    // The new value.
    template <class State>
    SEQREC_FN V apply(V value, V g, const State& mean, const State& square) const {
        V step = M::mul(minus_lr_, g);
        if (rule_ == UpdateRule::adam) {
            const V m = moved(mean, share_1_, g);
            const V v = moved(square, share_2_, M::mul(g, g));
            const V root = M::sqrt(M::mul(v, correction_2_));
            step = M::div(M::mul(M::mul(minus_lr_, correction_1_), m), M::add(root, eps_));
        } else {
            if (rule_ == UpdateRule::adagrad) {
                const V total = M::mul_add(g, g, square.load());
                square.store(total);
                step = M::div(step, M::sqrt(M::add(total, eps_)));
            }
            if (has_momentum_) {
                step = M::mul_add(momentum_, mean.load(), step);
                mean.store(step);
            }
        }
        return M::mul_add(value, kept_, step);
    }

  private:
    // The moving mean of `value`.
    template <class State>
    static SEQREC_FN V moved(const State& state, V share, V value) {
        const V before = state.load();
        const V after = M::mul_add(share, M::sub(value, before), before);
        state.store(after);
        return after;
    }

    UpdateRule rule_;
    bool has_momentum_;
    V minus_lr_, kept_, momentum_, eps_, share_1_, share_2_, correction_1_, correction_2_;
};

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
