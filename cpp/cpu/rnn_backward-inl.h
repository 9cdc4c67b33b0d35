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
};

// One row of a step: where its data lie. Held apart from the step, in registers: as far as a
// compiler knows, a vector that is stored may change any pointer in memory.
template <class Cell, class Value>
struct GradRow {
    using T = Value;
    using D = Lanes<T>;
    using V = hn::Vec<D>;
    static constexpr std::int64_t kGates = gate_count(Cell::kKind);
    static constexpr std::int64_t kSaved = saved_count(Cell::kKind);

    GradRow(const GradStep<T>& step, std::int64_t row)
        : hidden(step.weights->hidden_size),
          state(step.weights->state_size),
          at(row * step.stride),
          index(step.first + row),
          saved(step.args->saved +
                step.events[row] * step.weights->blocks * kSaved * kPackedLanes<T>),
          before(step.args->h_before[step.events[row]]),
          after(step.args->y + step.events[row] * state),
          dropout(step.dropout == nullptr ? nullptr : step.dropout + at),
          dgates(step.dgates + row * step.args->dgates_stride),
          dinput_gates(step.args->dinput_gates == nullptr
                           ? nullptr
                           : step.args->dinput_gates + step.events[row] * kGates * hidden) {}

    HWY_INLINE V load_saved(std::int64_t value, std::int64_t unit) const {
        return hn::LoadU(D(), saved + (unit / kPackedLanes<T> * kSaved + value) * kPackedLanes<T> +
                                  unit % kPackedLanes<T>);
    }
    // The state before and after the event.
    HWY_INLINE V h_before(std::int64_t unit) const {
        return load_part(D(), before + unit, state - unit);
    }
    HWY_INLINE V h_after(std::int64_t unit) const {
        return load_part(D(), after + unit, state - unit);
    }
    HWY_INLINE V candidate_scale(std::int64_t unit) const {
        return dropout == nullptr ? hn::Set(D(), T(1)) : hn::LoadU(D(), dropout + unit);
    }
    HWY_INLINE void store_slot(V value, std::int64_t slot, std::int64_t unit) const {
        store_part(value, D(), dgates + slot * hidden + unit, hidden - unit);
    }
    // Stores a gate's gradient for the products with the weights and for the caller.
    HWY_INLINE void store_gate(V value, std::int64_t gate, std::int64_t unit) const {
        store_slot(value, gate_slot(Cell::kKind, gate), unit);
        if (dinput_gates != nullptr) {
            store_part(value, D(), dinput_gates + gate * hidden + unit, hidden - unit);
        }
    }

    std::int64_t hidden, state;
    std::int64_t at;     // in tile buffers
    std::int64_t index;  // of the matrices of M rows
    const T *saved, *before, *after, *dropout;
    T *dgates, *dinput_gates;
};

// A step with the type of its rows: the counts of the cell are constants, because they sit in the
// innermost addresses.
template <class Cell, class Value>
struct GradView : GradStep<Value> {
    using T = Value;
    using Row = GradRow<Cell, Value>;

    explicit GradView(const GradStep<T>& step) : GradStep<T>(step) {}
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
    for (std::int64_t r = 0; r < view.rows; ++r) {
        const typename View::Row row(view, r);
        for (std::int64_t unit = 0; unit < row.hidden; unit += lane_count<typename View::T>()) {
            op.apply(row, unit);
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
