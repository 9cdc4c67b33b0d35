// LSTM backward on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/lstm_backward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cells/lstm_cell-inl.h"
#include "cpu/rnn_backward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// What the point-wise gradients of a step read and write beside its rows.
template <class View>
struct LstmGradOps {
    using T = typename View::T;
    using Row = typename View::Row;
    using D = Lanes<T>;
    using V = hn::Vec<D>;
    using M = SimdMath<D>;

    LstmGradOps(const View& view, const T* dh_of_output)
        : zoned(view.keep_h != nullptr),
          dh_out(dh_of_output),
          c_before(view.c_before),
          dc(view.dc),
          unprojected(view.args->unprojected) {}

    // The cell state before zoneout, if there is any: what was saved is the one after it.
    HWY_INLINE V cell_state_inside(const Row& row, std::int64_t unit) const {
        if (!zoned) {
            return row.load_saved(4, unit);
        }
        return lstm_cell_state<M>(row.load_saved(0, unit), row.load_saved(1, unit),
                                  row.load_saved(2, unit), hn::LoadU(D(), c_before + row.at + unit),
                                  row.candidate_scale(unit));
    }

    bool zoned;
    const T* dh_out;  // with respect to o * tanh(c)
    const T* c_before;
    T *dc, *unprojected;
};

template <class View>
struct LstmGradOp : LstmGradOps<View> {
    using Base = LstmGradOps<View>;
    using V = typename Base::V;
    using Base::Base;

    HWY_INLINE void apply(const typename Base::Row& row, std::int64_t unit) const {
        const typename Base::D d;
        const std::int64_t at = row.at + unit;
        const V i = row.load_saved(0, unit);
        const V f = row.load_saved(1, unit);
        const V g = row.load_saved(2, unit);
        const V o = row.load_saved(3, unit);
        const auto grad = lstm_step_grad<typename Base::M>(
            i, f, g, o, hn::LoadU(d, this->c_before + at), this->cell_state_inside(row, unit),
            hn::LoadU(d, this->dh_out + at), hn::LoadU(d, this->dc + at),
            row.candidate_scale(unit));
        row.store_gate(grad.i_pre, 0, unit);
        row.store_gate(grad.f_pre, 1, unit);
        row.store_gate(grad.g_pre, 2, unit);
        row.store_gate(grad.o_pre, 3, unit);
        hn::StoreU(grad.c, d, this->dc + at);
    }
};

// o * tanh(c) again, for the gradient of the projection.
template <class View>
struct LstmUnprojectedOp : LstmGradOps<View> {
    using Base = LstmGradOps<View>;
    using M = typename Base::M;
    using Base::Base;

    HWY_INLINE void apply(const typename Base::Row& row, std::int64_t unit) const {
        const auto value =
            M::mul(row.load_saved(3, unit), M::tanh(this->cell_state_inside(row, unit)));
        store_part(value, typename Base::D(), this->unprojected + row.index * row.hidden + unit,
                   row.hidden - unit);
    }
};

struct LstmGradCell {
    static constexpr CellKind kKind = CellKind::lstm;

    template <class View>
    static void step_grad(const View& view) {
        using T = typename View::T;
        const PackedRnnGrad<T>& weights = *view.weights;
        const T* dh_out = view.dh;
        if (weights.has_projection()) {
            for (std::int64_t row = 0; row < view.rows; ++row) {
                std::copy_n(view.dh + row * view.stride, weights.state_size,
                            view.args->dprojected + (view.first + row) * weights.state_size);
            }
            clear(view, view.work);
            view.add_product(view.work, view.dh_rows, weights.state_size, weights.projection);
            for_each_unit(view, LstmUnprojectedOp<View>(view, view.work));
            dh_out = view.work;
        }
        for_each_unit(view, LstmGradOp<View>(view, dh_out));
        clear(view, view.dh);
        view.add_recurrent_gradient(4);
    }

    template <class View, class T>
    static void clear(const View& view, T* buffer) {
        std::memset(buffer, 0, static_cast<std::size_t>(view.rows * view.stride) * sizeof(T));
    }
};

template <class T>
void lstm_backward(const RnnBackwardArgs<T>& args) {
    run_backward(args, &cell_step_grad<LstmGradCell, T>);
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(lstm_backward_cpu, lstm_backward, RnnBackwardArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
