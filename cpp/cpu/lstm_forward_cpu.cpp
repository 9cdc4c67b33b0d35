// LSTM forward on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/lstm_forward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cells/lstm_cell-inl.h"
#include "cpu/rnn_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
struct LstmOp {
    using D = Lanes<T>;
    using V = hn::Vec<D>;
    using M = SimdMath<D>;

    struct Stage {
        V o, c;
    };
    struct Part {
        static constexpr bool kHasStages = true;
        HWY_INLINE SumsStart<T> start() const { return {view.x_gates, unit0 * 4, 4, nullptr}; }
        HWY_INLINE Stage begin(std::int64_t row, std::int64_t lane, const V (&acc)[4]) const {
            const D d;
            const std::int64_t unit = unit0 + lane;
            T* c = view.c + row * view.state_stride + unit;
            const LstmGates<M> gates = lstm_gates<M>(
                acc[0], acc[1], acc[2], acc[3], hn::LoadU(d, c), view.candidate_scale(row, unit));
            hn::StoreU(gates.c, d, c);
            if (view.saved_rows != nullptr) {
                T* saved = view.saved_rows[row] + unit0 * 5 + lane;
                const V values[5] = {gates.i, gates.f, gates.g, gates.o, gates.c};
                for (int k = 0; k < 5; ++k) {
                    view.save(values[k], saved + k * kPackedLanes<T>);
                }
            }
            return {gates.o, gates.c};
        }
        HWY_INLINE void end(std::int64_t row, std::int64_t lane, const Stage& stage) const {
            const D d;
            const std::int64_t unit = unit0 + lane;
            const V h = lstm_output<M>(stage.o, stage.c);
            hn::StoreU(h, d, h_out + row * view.state_stride + unit);
            if (y_rows != nullptr) {
                store_part(h, d, y_rows[row] + unit, view.weights->hidden_size - unit);
            }
        }

        const StepView<T>& view;
        T* h_out;
        T* const* y_rows;
        std::int64_t unit0;
    };
    HWY_INLINE Part part(std::int64_t block) const {
        view.fetch_ahead(block);
        return {view, h_out, y_rows, block * kPackedLanes<T>};
    }

    const StepView<T>& view;
    T* h_out;          // where o * tanh(c) goes
    T* const* y_rows;  // null if it is not the output
};

// h = W_hr (o * tanh(c)), from `work`.
template <class T>
struct LstmProjectionOp {
    using D = Lanes<T>;
    using V = hn::Vec<D>;

    struct Part : SumsFromZero<T> {
        template <int kVectors>
        HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                               const V (&acc)[kVectors]) const {
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t unit = (block0 + v) * kPackedLanes<T> + lane;
                hn::StoreU(acc[v], D(), view.h_next + row * view.state_stride + unit);
                if (view.y_rows != nullptr) {
                    store_part(acc[v], D(), view.y_rows[row] + unit,
                               view.weights->state_size - unit);
                }
            }
        }

        const StepView<T>& view;
        std::int64_t block0;
    };
    HWY_INLINE Part part(std::int64_t block) const { return {{}, view, block}; }

    const StepView<T>& view;
};

struct LstmCell {
    template <class T>
    static void step(const StepView<T>& view) {
        const PackedRnn<T>& weights = *view.weights;
        // |o * tanh(c)| <= 1, but a projection of it may be anything.
        const RowRange range = weights.has_projection() ? RowRange::dynamic : RowRange::unit;
        if (!weights.has_projection()) {
            const LstmOp<T> op{view, view.h_next, view.y_rows};
            multiply_gates<4>(op, view.h_rows, view.rows, view.state_terms, weights.recurrent,
                              range, view.odd_step);
            return;
        }
        const LstmOp<T> op{view, view.work, nullptr};
        multiply_gates<4>(op, view.h_rows, view.rows, view.state_terms, weights.recurrent, range,
                          view.odd_step);
        multiply_plain(LstmProjectionOp<T>{view}, view.work_rows, view.rows, weights.hidden_size,
                       weights.projection, RowRange::unit);
    }
};

template <class T>
void lstm_forward(const RnnForwardArgs<T>& args) {
    run_forward(args, &LstmCell::step<T>);
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(lstm_forward_cpu, lstm_forward, RnnForwardArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
