// Vanilla RNN backward on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rnn_backward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cells/rnn_cell-inl.h"
#include "cpu/rnn_backward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class View>
struct RnnGradOp {
    using T = typename View::T;
    using D = Lanes<T>;
    using M = SimdMath<D>;

    HWY_INLINE void apply(const typename View::Row& row, std::int64_t unit) const {
        T* const dh_unit = dh + row.at + unit;
        const hn::Vec<D> scale = row.candidate_scale(unit);
        const hn::Vec<D> dh_scaled = M::mul(scale, hn::LoadU(D(), dh_unit));
        const hn::Vec<D> value = activation(row, unit, scale);
        row.store_gate(rnn_activate_grad<M>(kind, value, dh_scaled), 0, unit);
        hn::StoreU(hn::Zero(D()), D(), dh_unit);
    }

    // The output before dropout and zoneout.
    HWY_INLINE hn::Vec<D> activation(const typename View::Row& row, std::int64_t unit,
                                     hn::Vec<D> scale) const {
        const hn::Vec<D> h = row.h_after(unit);
        if (keep_h == nullptr && row.dropout == nullptr) {
            return h;
        }
        const hn::Vec<D> keep =
            keep_h == nullptr ? hn::Zero(D()) : hn::LoadU(D(), keep_h + row.at + unit);
        return rnn_activation<M>(h, row.h_before(unit), keep, scale, M::set(0x1p-21));
    }

    CellKind kind;
    T* dh;
    const T* keep_h;
};

struct RnnGradCell {
    static constexpr CellKind kKind = CellKind::rnn_tanh;  // rnn_relu has the same counts

    template <class View>
    static void step_grad(const View& view) {
        for_each_unit(view, RnnGradOp<View>{view.weights->kind, view.dh, view.keep_h});
        view.add_recurrent_gradient(1);
    }
};

template <class T>
void rnn_backward(const RnnBackwardArgs<T>& args) {
    run_backward(args, &cell_step_grad<RnnGradCell, T>);
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(rnn_backward_cpu, rnn_backward, RnnBackwardArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
