// What the backward passes of all recurrent cells share: what a step sees, and the time loop.

// Per-target include guard
#if defined(SEQREC_CPU_RNN_BACKWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_RNN_BACKWARD_INL_H_
#undef SEQREC_CPU_RNN_BACKWARD_INL_H_
#else
#define SEQREC_CPU_RNN_BACKWARD_INL_H_
#endif

#include <algorithm>

#include "cpu/rnn_kernels.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// What a cell's gradient step sees. Tile buffers are (rows, stride), padded with zeros.
template <class T>
struct GradStep {
    const RnnBackwardArgs<T>* args;
    const PackedRnnGrad<T>* weights;
    std::int64_t rows;           // active
    std::int64_t stride;         // of dh, dc, c_before and work
    const std::int64_t* events;  // (rows)
    std::int64_t first;          // row of the matrices of M rows that the first one here has
    T* dh;                       // in: dloss/dh'; out: dloss/dh
    T* dc;                       // LSTM: the same for c
    T* c_before;                 // LSTM
    T* work;
    const T* const* dh_rows;
    T* dgates;                       // the first of the step's rows of RnnBackwardArgs::dgates
    const T* const* dgates_rows;     // from the first recurrent slot on
    const T* const* candidate_rows;  // from the third slot on; read by gru_reset_before only
    const T* dropout;                // (rows, stride): what multiplied candidates; optional
    const T* keep_h;                 // (rows, stride): what zoneout kept of h; optional
    bool need_dh;                    // else nobody reads dh after the step

    // to += `from`, (rows, depth), times the matrix.
    void add_product(T* to, const T* const* from, std::int64_t depth,
                     const PackedMatrix<T>& matrix) const {
        rnn_grad_product_cpu<T>({from, rows, depth, &matrix, to, stride, nullptr});
    }
    // dh += what comes through the first `gates` recurrent gates.
    void add_recurrent_gradient(std::int64_t gates) const {
        if (need_dh) {
            add_product(dh, dgates_rows, gates * weights->hidden_size, weights->recurrent);
        }
    }
    HWY_INLINE hn::Vec<Lanes<T>> candidate_scale(std::int64_t row, std::int64_t unit) const {
        const Lanes<T> d;
        return dropout == nullptr ? hn::Set(d, T(1)) : hn::LoadU(d, dropout + row * stride + unit);
    }
    // Vectors of the state before and after the event of a row.
    HWY_INLINE hn::Vec<Lanes<T>> h_before(std::int64_t row, std::int64_t unit) const {
        return load_part(Lanes<T>(), args->h_before[events[row]] + unit,
                         weights->state_size - unit);
    }
    HWY_INLINE hn::Vec<Lanes<T>> h_after(std::int64_t row, std::int64_t unit) const {
        const std::int64_t width = weights->state_size;
        return load_part(Lanes<T>(), args->y + events[row] * width + unit, width - unit);
    }
};

// The same with the counts of the cell as constants, because they sit in the innermost addresses.
template <class Cell, class Value>
struct GradView : GradStep<Value> {
    using T = Value;
    static constexpr std::int64_t kGates = gate_count(Cell::kKind);
    static constexpr std::int64_t kSaved = saved_count(Cell::kKind);

    explicit GradView(const GradStep<T>& step) : GradStep<T>(step) {}

    HWY_INLINE const T* saved_at(std::int64_t row, std::int64_t index, std::int64_t unit) const {
        return this->args->saved +
               ((this->events[row] * this->weights->blocks + unit / kPackedLanes<T>)*kSaved +
                index) *
                   kPackedLanes<T> +
               unit % kPackedLanes<T>;
    }
    HWY_INLINE void store_slot(hn::Vec<Lanes<T>> value, std::int64_t row, std::int64_t slot,
                               std::int64_t unit) const {
        const std::int64_t hidden = this->weights->hidden_size;
        store_part(value, Lanes<T>(),
                   this->dgates + row * this->args->dgates_stride + slot * hidden + unit,
                   hidden - unit);
    }
    // Stores a gate's gradient for the products with the weights and for the caller.
    HWY_INLINE void store_gate(hn::Vec<Lanes<T>> value, std::int64_t row, std::int64_t gate,
                               std::int64_t unit) const {
        store_slot(value, row, gate_slot(Cell::kKind, gate), unit);
        if (this->args->dinput_gates != nullptr) {
            const std::int64_t hidden = this->weights->hidden_size;
            T* to = this->args->dinput_gates + (this->events[row] * kGates + gate) * hidden + unit;
            store_part(value, Lanes<T>(), to, hidden - unit);
        }
    }
};

// One step of a cell for all active rows.
template <class Cell, class T>
void cell_step_grad(const GradStep<T>& step) {
    Cell::step_grad(GradView<Cell, T>(step));
}
template <class T>
using CellStepGrad = void (*)(const GradStep<T>&);

// All steps of a range, newest first, in rnn_backward_loop_cpu.cpp.
template <class T>
void run_backward(const RnnBackwardArgs<T>& args, CellStepGrad<T> step);

// Calls op.apply(row, unit) for every active row and every vector of its hidden units.
template <class View, class PointwiseOp>
HWY_INLINE void for_each_unit(const View& view, const PointwiseOp& op) {
    for (std::int64_t row = 0; row < view.rows; ++row) {
        for (std::int64_t unit = 0; unit < view.weights->hidden_size;
             unit += lane_count<typename View::T>()) {
            op.apply(row, unit);
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
