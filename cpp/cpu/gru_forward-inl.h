// What the forward passes of the GRU and of its relatives with attention share: r, z and n of a
// step, and the new state by the formulas of cells/gru_cell-inl.h or, with `kAttention`, of
// cells/augru_cell-inl.h.

// Per-target include guard
#if defined(SEQREC_CPU_GRU_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_GRU_FORWARD_INL_H_
#undef SEQREC_CPU_GRU_FORWARD_INL_H_
#else
#define SEQREC_CPU_GRU_FORWARD_INL_H_
#endif

#include "cells/augru_cell-inl.h"
#include "cells/gru_cell-inl.h"
#include "cpu/rnn_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// What both forms of the cell need of one block of units.
template <class T, bool kAttention>
struct GruBlock {
    using D = Lanes<T>;
    using V = hn::Vec<D>;
    using M = SimdMath<D>;

    GruBlock(const StepView<T>& step, std::int64_t block, std::int64_t saved_values)
        : view(step),
          unit0(block * kPackedLanes<T>),
          saved_offset(unit0 * saved_values),
          candidate_bias(step.weights->candidate_bias.data() + unit0),
          gates_offset(unit0 * 3) {}

    HWY_INLINE V input(std::int64_t row, int gate, std::int64_t lane) const {
        return hn::LoadU(D(), view.x_gates[row] + gates_offset + gate * kPackedLanes<T> + lane);
    }
    HWY_INLINE V state(std::int64_t row, std::int64_t lane) const {
        return hn::LoadU(D(), view.h + row * view.state_stride + unit0 + lane);
    }
    HWY_INLINE V blend(V z, V n, std::int64_t row, std::int64_t lane) const {
        if constexpr (kAttention) {
            const V attention = hn::Set(D(), view.attention[row]);
            return attention_blend<M>(view.weights->kind, z, n, state(row, lane), attention);
        } else {
            return gru_blend<M>(z, n, state(row, lane));
        }
    }
    // h' from z and n.
    HWY_INLINE void store(V z, V n, std::int64_t row, std::int64_t lane) const {
        const std::int64_t unit = unit0 + lane;
        const V h = blend(z, M::mul(view.candidate_scale(row, unit), n), row, lane);
        hn::StoreU(h, D(), view.h_next + row * view.state_stride + unit);
        if (view.y_rows != nullptr) {
            store_part(h, D(), view.y_rows[row] + unit, view.weights->hidden_size - unit);
        }
    }
    HWY_INLINE void save(V value, int index, std::int64_t row, std::int64_t lane) const {
        view.save(value, view.saved_rows[row] + saved_offset + index * kPackedLanes<T> + lane);
    }

    const StepView<T>& view;
    std::int64_t unit0, saved_offset;
    const T* candidate_bias;
    std::int64_t gates_offset;
};

// Reset-after: one pass over h gives r, z and h_n.
template <class T, bool kAttention>
struct GruOp {
    using B = GruBlock<T, kAttention>;
    using V = typename B::V;
    using M = typename B::M;

    struct Stage {
        V z, n_sum;
    };
    struct Part : B {
        using B::B;
        static constexpr bool kHasStages = true;
        HWY_INLINE SumsStart<T> start() const {
            return {this->view.x_gates, this->gates_offset, 2, this->candidate_bias};
        }
        HWY_INLINE Stage begin(std::int64_t row, std::int64_t lane, const V (&acc)[3]) const {
            const V r = M::sigmoid(acc[0]);
            const V z = M::sigmoid(acc[1]);
            if (this->view.saved_rows != nullptr) {
                this->save(r, 0, row, lane);
                this->save(z, 1, row, lane);
                this->save(acc[2], 3, row, lane);
            }
            return {z, gru_candidate_sum<M>(this->input(row, 2, lane), acc[2], r)};
        }
        HWY_INLINE void end(std::int64_t row, std::int64_t lane, const Stage& stage) const {
            const V n = M::tanh(stage.n_sum);
            this->store(stage.z, n, row, lane);
            if (this->view.saved_rows != nullptr) {
                this->save(n, 2, row, lane);
            }
        }
    };
    HWY_INLINE Part part(std::int64_t block) const {
        view.fetch_ahead(block);
        return Part(view, block, 4);
    }

    const StepView<T>& view;
};

template <bool kAttention>
struct GruCell {
    template <class T>
    static void step(const StepView<T>& view) {
        const PackedRnn<T>& weights = *view.weights;
        multiply_gates<3>(GruOp<T, kAttention>{view}, view.h_rows, view.rows, view.state_terms,
                          weights.recurrent, RowRange::unit, view.odd_step);
    }
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
