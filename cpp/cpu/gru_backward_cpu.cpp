// GRU backward on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gru_backward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cpu/gru_backward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Reset-before, first pass: the gradients of z and n, and r * h for the weight gradient.
template <class View>
struct GruCandidateGradOp {
    using T = typename View::T;
    using D = Lanes<T>;
    using M = SimdMath<D>;

    HWY_INLINE void apply(const typename View::Row& row, std::int64_t unit) const {
        const D d;
        const hn::Vec<D> r = row.load_saved(0, unit);
        const hn::Vec<D> z = row.load_saved(1, unit);
        const hn::Vec<D> n = row.load_saved(2, unit);
        const hn::Vec<D> h = row.h_before(unit);
        const std::int64_t at = row.at + unit;
        const GruGrad<M> grad =
            gru_blend_grad<M>(z, n, h, hn::LoadU(d, dh + at), row.candidate_scale(unit));
        row.store_gate(grad.z_pre, 1, unit);
        row.store_gate(grad.n_pre, 2, unit);
        store_part(M::mul(r, h), d, rh_before + row.index * row.hidden + unit, row.hidden - unit);
        hn::StoreU(grad.h, d, dh + at);
        hn::StoreU(hn::Zero(d), d, work + at);
    }

    T *dh, *work, *rh_before;
};

// Reset-before, second pass: `work` holds the gradient of r * h.
template <class View>
struct GruResetGradOp {
    using T = typename View::T;
    using D = Lanes<T>;
    using M = SimdMath<D>;

    HWY_INLINE void apply(const typename View::Row& row, std::int64_t unit) const {
        const D d;
        const hn::Vec<D> r = row.load_saved(0, unit);
        const hn::Vec<D> h = row.h_before(unit);
        const std::int64_t at = row.at + unit;
        const hn::Vec<D> drh = hn::LoadU(d, work + at);
        row.store_gate(gru_reset_grad<M>(r, M::mul(drh, h)), 0, unit);
        hn::StoreU(M::mul_add(drh, r, hn::LoadU(d, dh + at)), d, dh + at);
    }

    T *dh, *work;
};

struct GruResetBeforeGradCell {
    static constexpr CellKind kKind = CellKind::gru_reset_before;

    template <class View>
    static void step_grad(const View& view) {
        using T = typename View::T;
        const PackedRnnGrad<T>& weights = *view.weights;
        for_each_unit(view, GruCandidateGradOp<View>{view.dh, view.work, view.args->rh_before});
        view.add_product(view.work, view.candidate_rows, weights.hidden_size, weights.candidate);
        for_each_unit(view, GruResetGradOp<View>{view.dh, view.work});
        view.add_recurrent_gradient(2);
    }
};

template <class T>
void gru_backward(const RnnBackwardArgs<T>& args) {
    if (args.weights->kind == CellKind::gru_reset_before) {
        run_backward(args, &cell_step_grad<GruResetBeforeGradCell, T>);
    } else {
        run_backward(args, &cell_step_grad<GruGradCell<CellKind::gru>, T>);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(gru_backward_cpu, gru_backward, RnnBackwardArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
