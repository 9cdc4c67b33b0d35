// Vanilla RNN forward on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rnn_forward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cells/rnn_cell-inl.h"
#include "cpu/rnn_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
struct RnnOp {
    using D = Lanes<T>;
    using V = hn::Vec<D>;

    struct Part {
        HWY_INLINE SumsStart<T> start() const {
            return {view.x_gates, block0 * kPackedLanes<T>, kMaxPanelVectors, nullptr};
        }
        template <int kVectors>
        HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                               const V (&acc)[kVectors]) const {
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t u = unit(v, lane);
                const V h = SimdMath<D>::mul(view.candidate_scale(row, u), activation(acc[v]));
                hn::StoreU(h, D(), view.h_next + row * view.state_stride + u);
                if (view.y_rows != nullptr) {
                    store_part(h, D(), view.y_rows[row] + u, view.weights->hidden_size - u);
                }
            }
        }
        HWY_INLINE V activation(V sum) const {
            return rnn_activate<SimdMath<D>>(view.weights->kind, sum);
        }
        HWY_INLINE std::int64_t unit(int v, std::int64_t lane) const {
            return (block0 + v) * kPackedLanes<T> + lane;
        }

        const StepView<T>& view;
        std::int64_t block0;
    };
    HWY_INLINE Part part(std::int64_t block) const {
        view.fetch_ahead(block, kMaxPanelVectors);
        return {view, block};
    }

    const StepView<T>& view;
};

struct RnnCell {
    template <class T>
    static void step(const StepView<T>& view) {
        const PackedRnn<T>& weights = *view.weights;
        // A ReLU's states have no bound.
        const RowRange range =
            weights.kind == CellKind::rnn_relu ? RowRange::dynamic : RowRange::unit;
        multiply_plain(RnnOp<T>{view}, view.h_rows, view.rows, view.state_terms, weights.recurrent,
                       range);
    }
};

template <class T>
void rnn_forward(const RnnForwardArgs<T>& args) {
    run_forward(args, &RnnCell::step<T>);
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(rnn_forward_cpu, rnn_forward, RnnForwardArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
