// What the backward passes of the GRU and of its relatives with attention share, see
// cpu/gru_forward-inl.h.

// Per-target include guard
#if defined(SEQREC_CPU_GRU_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_GRU_BACKWARD_INL_H_
#undef SEQREC_CPU_GRU_BACKWARD_INL_H_
#else
#define SEQREC_CPU_GRU_BACKWARD_INL_H_
#endif

#include "cells/augru_cell-inl.h"
#include "cpu/rnn_backward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class View, bool kAttention>
struct GruGradOp {
    using T = typename View::T;
    using Row = typename View::Row;
    using D = Lanes<T>;
    using V = hn::Vec<D>;
    using M = SimdMath<D>;

    // The gradients of one vector of units. `attention_sum` takes their parts of dloss/da.
    HWY_INLINE void apply(const Row& row, std::int64_t unit, V attention, V& attention_sum) const {
        const V r = row.load_saved(0, unit);
        const V z = row.load_saved(1, unit);
        const V n = row.load_saved(2, unit);
        const V h_n = row.load_saved(3, unit);
        const V h = row.h_before(unit);
        const V scale = row.candidate_scale(unit);
        const V dh_after = hn::LoadU(D(), dh + row.at + unit);
        if constexpr (kAttention) {
            const auto grad = attention_blend_grad<M>(kind, z, n, h, dh_after, scale, attention);
            attention_sum = M::add(attention_sum, grad.attention);
            store(grad, r, h_n, row, unit);
        } else {
            store(gru_blend_grad<M>(z, n, h, dh_after, scale), r, h_n, row, unit);
        }
    }

    HWY_INLINE void store(const GruGrad<M>& grad, V r, V h_n, const Row& row,
                          std::int64_t unit) const {
        const V r_pre = gru_reset_grad<M>(r, M::mul(grad.n_pre, h_n));
        row.store_gate(r_pre, 0, unit);
        row.store_gate(grad.z_pre, 1, unit);
        row.store_gate(grad.n_pre, 2, unit);
        row.store_slot(M::mul(grad.n_pre, r), 3, unit);
        hn::StoreU(grad.h, D(), dh + row.at + unit);
    }

    CellKind kind;
    T* dh;
};

template <CellKind kCell>  // any of those with attention stands for all
struct GruGradCell {
    static constexpr CellKind kKind = kCell;
    static constexpr bool kAttention = has_attention(kCell);

    template <class View>
    static void step_grad(const View& view) {
        using T = typename View::T;
        const Lanes<T> d;
        const GruGradOp<View, kAttention> op{view.weights->kind, view.dh};
        for (std::int64_t r = 0; r < view.rows; ++r) {
            const typename View::Row row(view, r);
            const std::int64_t event = view.events[r];
            const auto attention = hn::Set(d, kAttention ? view.args->attention[event] : T(0));
            auto sum = hn::Zero(d);
            for (std::int64_t unit = 0; unit < row.hidden; unit += lane_count<T>()) {
                op.apply(row, unit, attention, sum);
            }
            if constexpr (kAttention) {
                view.args->dattention[event] = hn::GetLane(hn::SumOfLanes(d, sum));
            }
        }
        view.add_recurrent_gradient(3);
    }
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
