// GRU forward on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gru_forward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cpu/gru_forward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Reset-before, first pass: r * h into `work`, z into h_next until the second pass replaces it.
template <class T>
struct GruResetOp {
    using B = GruBlock<T, false>;
    using V = typename B::V;
    using M = typename B::M;

    struct Part : B {
        using B::B;
        HWY_INLINE SumsStart<T> start() const {
            return {this->view.x_gates, this->gates_offset, 2, nullptr};
        }
        HWY_INLINE void finish(std::int64_t row, std::int64_t lane, const V (&acc)[2]) const {
            const typename B::D d;
            const V r = M::sigmoid(acc[0]);
            const V z = M::sigmoid(acc[1]);
            const std::int64_t at = row * this->view.state_stride + this->unit0 + lane;
            hn::StoreU(M::mul(r, this->state(row, lane)), d, this->view.work + at);
            hn::StoreU(z, d, this->view.h_next + at);
            if (this->view.saved_rows != nullptr) {
                this->save(r, 0, row, lane);
                this->save(z, 1, row, lane);
            }
        }
    };
    HWY_INLINE Part part(std::int64_t block) const {
        view.fetch_ahead(block);
        return Part(view, block, 3);
    }

    const StepView<T>& view;
};

// Reset-before, second pass: n and the new state.
template <class T>
struct GruCandidateOp {
    using B = GruBlock<T, false>;
    using V = typename B::V;
    using M = typename B::M;

    struct Part {
        HWY_INLINE SumsStart<T> start() const { return {nullptr, 0, 0, block(0).candidate_bias}; }
        template <int kVectors>
        HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                               const V (&acc)[kVectors]) const {
            for (int v = 0; v < kVectors; ++v) {
                const B b = block(v);
                const V n = gru_candidate<M>(b.input(row, 2, lane), acc[v], M::set(1));
                const V z = hn::LoadU(typename B::D(),
                                      view.h_next + row * view.state_stride + b.unit0 + lane);
                b.store(z, n, row, lane);
                if (view.saved_rows != nullptr) {
                    b.save(n, 2, row, lane);
                }
            }
        }
        HWY_INLINE B block(int v) const { return B(view, block0 + v, 3); }

        const StepView<T>& view;
        std::int64_t block0;
    };
    HWY_INLINE Part part(std::int64_t block) const { return Part{view, block}; }

    const StepView<T>& view;
};

struct GruResetBeforeCell {
    template <class T>
    static void step(const StepView<T>& view) {
        const PackedRnn<T>& weights = *view.weights;
        multiply_gates<2>(GruResetOp<T>{view}, view.h_rows, view.rows, view.state_terms,
                          weights.recurrent, RowRange::unit, view.odd_step);
        multiply_plain(GruCandidateOp<T>{view}, view.work_rows, view.rows, view.state_terms,
                       weights.candidate, RowRange::unit);
    }
};

template <class T>
void gru_forward(const RnnForwardArgs<T>& args) {
    if (args.weights->kind == CellKind::gru_reset_before) {
        run_forward(args, &GruResetBeforeCell::step<T>);
    } else {
        run_forward(args, &GruCell</*kAttention=*/false>::template step<T>);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(gru_forward_cpu, gru_forward, RnnForwardArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
