// The recurrent CPU kernels, one pair per cell; each picks the active target once per call.
#pragma once

#include <cstdint>

#include "base/sequence_layout.h"
#include "base/step_ranges.h"
#include "cpu/packed_rnn.h"
#include "cpu/rnn_noise.h"

namespace seqrec_fast {

// One layer, one direction, a batch of sessions. N events, B sessions, H hidden_size, S state_size
// (H but for an LSTM with projection), G gates. Row-major; "optional" pointers may be null.
template <class T>
struct RnnForwardArgs {
    const PackedRnn<T>* weights;
    const SequenceLayout* layout;
    const T* x;               // (N, input_size), or (N, G * H) input gates without weight_ih
    const std::int64_t* ids;  // (N); optional: event n has row ids[n] of x or gate_table
    const T* gate_table;      // rows of n_vectors * lanes by rnn_input_gates_table_cpu; replaces x
    const T* h_0;             // (B, S); optional: zeros
    const T* c_0;             // (B, H), LSTM; optional: zeros
    const std::uint8_t* reset;  // (N); optional. Non-zero: the state is zeroed before this event
    bool reverse;               // newest event first
    T* y;                       // (N, ldy) of which S columns are written; optional
    std::int64_t ldy;
    T* h_n;                 // (B, S)
    T* c_n;                 // (B, H), LSTM
    T* saved;               // (N, saved_count * padded H) for the backward pass; optional
    const RnnNoise* noise;  // optional
    const T* attention;     // (N); cells with attention
};

// Input gates with their bias, in the vector order of the packed weights.
template <class T>
struct RnnInputGatesArgs {
    const PackedRnn<T>* weights;
    const T* const* x;  // (rows) rows of input_size
    std::int64_t rows;
    T* out;  // (rows, n_vectors * lanes)
};

// Gradients of the same call, but for the weights': those follow by rnn_weight_grad_cpu from the
// matrices of M rows written here, the events of `range` in the order of append_events. Reads y and
// saved of the forward pass.
template <class T>
struct RnnBackwardArgs {
    const PackedRnnGrad<T>* weights;
    const SequenceLayout* layout;
    const T* const* h_before;   // (N) rows of S: the state each event started from
    const T* c_0;               // (B, H), LSTM; optional: zeros
    const std::uint8_t* reset;  // (N); optional
    bool reverse;
    const T* y;      // (N, S)
    const T* saved;  // as written by the forward pass
    const T* dy;     // (N, S)
    const StepRange* range;
    const std::int64_t* step_rows;  // see append_events
    const T* dh_n;                  // (B, S): with respect to the states after all steps
    const T* dc_n;                  // (B, H), LSTM
    T* dh;  // (B, S): what a range hands to the one before; null if the range is the only one
    T* dc;  // (B, H), LSTM
    T* dx;  // (N, input_size); optional
    T* dinput_gates;  // (N, G * H): dx where the input is the input gates; optional
    T* dgates;        // (M, slot_count * H): of the sums of every gate, see cells/cell_kind.h
    std::int64_t dgates_stride;  // of its rows
    T* rh_before;                // (M, H), gru_reset_before: r * h_before
    T* dprojected;               // (M, S), LSTM with projection: with respect to h after it
    T* unprojected;              // (M, H), LSTM with projection: o * tanh(c)
    T* dh_0;                     // (B, S): before all steps; optional
    T* dc_0;                     // (B, H), LSTM
    const RnnNoise* noise;       // as in forward
    const T* attention;          // (N); cells with attention
    T* dattention;               // (N); the same
};

// A step's product of gradients with weights: out[r] += rows[r] * matrix, or, with events,
// out[events[r]] = rows[r] * matrix.
template <class T>
struct RnnGradProductArgs {
    const T* const* rows;  // (n_rows) rows of `depth`
    std::int64_t n_rows, depth;
    const PackedMatrix<T>* matrix;
    T* out;  // rows of `stride`; without events they have room for whole packed vectors
    std::int64_t stride;
    const std::int64_t* events;  // (n_rows); optional
};

// Two sums over events, one added to the other, have the bits of one sum if the first is over a
// multiple of these.
constexpr std::int64_t weight_grad_events(Precision precision) {
    return precision == Precision::full ? 128 : 256;
}

// weight = sum over events of the outer product of their gates' gradients and their inputs; bias =
// sum of the gates' gradients. Each element is summed in the order of the events, in blocks.
// With bfloat16, gates and inputs are rounded to it for the products; sums are of T.
template <class T>
struct RnnWeightGradArgs {
    const T* gates;  // (events, gates_stride) of which n_gates columns are read
    std::int64_t gates_stride, n_gates;
    std::int64_t rotation;  // the gradient of gate i is column (i + rotation) % n_gates
    std::int64_t events;
    const T* const* inputs;  // (events) rows of `width`
    std::int64_t width;
    T* weight;            // (n_gates, width); optional
    T* bias;              // (n_gates); optional
    Precision precision;  // full or bfloat16
    bool add = false;     // to what weight and bias hold, in place of writing them

    std::int64_t gate_of(std::int64_t column) const {
        return column < rotation ? column - rotation + n_gates : column - rotation;
    }
};

template <class T>
void gru_forward_cpu(const RnnForwardArgs<T>& args);
template <class T>
void gru_backward_cpu(const RnnBackwardArgs<T>& args);
template <class T>
void augru_forward_cpu(const RnnForwardArgs<T>& args);
template <class T>
void augru_backward_cpu(const RnnBackwardArgs<T>& args);
template <class T>
void lstm_forward_cpu(const RnnForwardArgs<T>& args);
template <class T>
void lstm_backward_cpu(const RnnBackwardArgs<T>& args);
template <class T>
void rnn_forward_cpu(const RnnForwardArgs<T>& args);
template <class T>
void rnn_backward_cpu(const RnnBackwardArgs<T>& args);
// Inside a DotSession of the weights' precision, on the calling thread.
template <class T>
void rnn_input_gates_cpu(const RnnInputGatesArgs<T>& args);
// A whole table, by all threads.
template <class T>
void rnn_input_gates_table_cpu(const RnnInputGatesArgs<T>& args);
// Inside a DotSession of the matrix' precision, on the calling thread.
template <class T>
void rnn_grad_product_cpu(const RnnGradProductArgs<T>& args);
template <class T>
void rnn_weight_grad_cpu(const RnnWeightGradArgs<T>& args);

}  // namespace seqrec_fast
