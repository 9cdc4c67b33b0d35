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

// The cell state before zoneout, if there is any: what was saved is the one after it.
template <class View, class V = hn::Vec<Lanes<typename View::T>>>
HWY_INLINE V cell_state_inside(const View& view, std::int64_t row, std::int64_t unit) {
    const Lanes<typename View::T> d;
    if (view.keep_h == nullptr) {
        return hn::LoadU(d, view.saved_at(row, 4, unit));
    }
    return lstm_cell_state<SimdMath<Lanes<typename View::T>>>(
        hn::LoadU(d, view.saved_at(row, 0, unit)), hn::LoadU(d, view.saved_at(row, 1, unit)),
        hn::LoadU(d, view.saved_at(row, 2, unit)),
        hn::LoadU(d, view.c_before + row * view.stride + unit), view.candidate_scale(row, unit));
}

template <class View>
struct LstmGradOp {
    using T = typename View::T;
    using D = Lanes<T>;
    using M = SimdMath<D>;

    HWY_INLINE void apply(std::int64_t row, std::int64_t unit) const {
        const D d;
        const std::int64_t at = row * view.stride + unit;
        hn::Vec<D> saved[4];
        for (int k = 0; k < 4; ++k) {
            saved[k] = hn::LoadU(d, view.saved_at(row, k, unit));
        }
        const LstmGrad<M> grad = lstm_step_grad<M>(
            saved[0], saved[1], saved[2], saved[3], hn::LoadU(d, view.c_before + at),
            cell_state_inside(view, row, unit), hn::LoadU(d, dh_out + at),
            hn::LoadU(d, view.dc + at), view.candidate_scale(row, unit));
        view.store_gate(grad.i_pre, row, 0, unit);
        view.store_gate(grad.f_pre, row, 1, unit);
        view.store_gate(grad.g_pre, row, 2, unit);
        view.store_gate(grad.o_pre, row, 3, unit);
        hn::StoreU(grad.c, d, view.dc + at);
    }

    const View& view;
    const T* dh_out;  // with respect to o * tanh(c)
};

// o * tanh(c) again, for the gradient of the projection.
template <class View>
struct LstmUnprojectedOp {
    using T = typename View::T;
    using D = Lanes<T>;
    using M = SimdMath<D>;

    HWY_INLINE void apply(std::int64_t row, std::int64_t unit) const {
        const hn::Vec<D> o = hn::LoadU(D(), view.saved_at(row, 3, unit));
        const hn::Vec<D> c = cell_state_inside(view, row, unit);
        const std::int64_t hidden = view.weights->hidden_size;
        store_part(M::mul(o, M::tanh(c)), D(),
                   view.args->unprojected + (view.first + row) * hidden + unit, hidden - unit);
    }

    const View& view;
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
            for_each_unit(view, LstmUnprojectedOp<View>{view});
            dh_out = view.work;
        }
        for_each_unit(view, LstmGradOp<View>{view, dh_out});
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
