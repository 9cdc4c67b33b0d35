// The time loops of recurrent layers on a GPU. Products over all events at once, x W_ih' before the
// loop and the weights' gradients after it, are the caller's: libraries of matrix products do them.
//
// N events, B sessions, H hidden_size, G gates. Row-major, in the GPU's memory; "optional" pointers
// may be null.
#pragma once

#include <cstdint>

#include "cells/cell_kind.h"
#include "cuda/simt.h"

namespace seqrec_fast {

// base/sequence_layout.h for a GPU: event t of session b is row first[b] + step[t]. What padded
// batches have no need of may be null.
struct DeviceLayout {
    std::int64_t batch, events;
    std::int64_t seq_len;                    // length of all sessions unless `length` is given
    std::int64_t first_stride, step_stride;  // in place of first and step: multiples of b and t
    const std::int64_t* first;               // (B)
    const std::int64_t* step;                // (longest session)
    const std::int64_t* length;              // (B)
    const std::int64_t* order;               // (B): sessions by length; any order is correct
    std::int64_t experts;  // each has batch / experts sessions in a row, of `order` too
};

// weight_hh as a pass multiplies by it: forward (H, G * H), transposed; backward (G * H, H). Those
// of experts lie one after another, as do their biases.
template <class T>
struct RecurrentWeights {
    const T* full;
    const std::uint16_t* packed;  // in place of it: bfloat16, see cuda/rnn_tensor_product.h
    std::int64_t stride;          // from one expert's to the next
};

template <class T>
struct RnnLoopArgs {
    CellKind kind;
    std::int64_t hidden;
    DeviceLayout layout;
    RecurrentWeights<T> weights;
    const T* x_gates;           // (N, G * H): W_ih x + b_ih
    const T* bias_hh;           // (experts, G * H); optional
    const T* h_0;               // (B, H); optional: zeros
    const T* c_0;               // (B, H), LSTM; optional: zeros
    const std::uint8_t* reset;  // (N); optional. Non-zero: the state is zeroed before this event
    const T* attention;         // (N); cells with attention
    bool reverse;               // newest event first
    T* y;                       // (N, H)
    T* h_n;                     // (B, H)
    T* c_n;                     // (B, H), LSTM
    T* saved;                   // (N, saved_count, H) for the backward pass; optional
};

template <class T>
struct RnnLoopGradArgs {
    CellKind kind;
    std::int64_t hidden;
    DeviceLayout layout;
    RecurrentWeights<T> weights;
    const T* h_0;  // these as in forward
    const T* c_0;
    const std::uint8_t* reset;
    const T* attention;
    bool reverse;
    const T* y;      // as written by the forward pass
    const T* saved;  // the same
    const T* dy;     // (N, H)
    const T* dh_n;   // (B, H)
    const T* dc_n;   // (B, H), LSTM
    T* dgates;       // (N, slot_count, H): of the sums of every gate, see cells/cell_kind.h
    T* h_before;     // (N, H): what weight_hh was multiplied by
    T* rh_before;    // (N, H), gru_reset_before: r * h_before, the same for the candidate
    T* dh_0;         // (B, H)
    T* dc_0;         // (B, H), LSTM
    T* dattention;   // (N); cells with attention
};

template <class T>
void gru_forward_cuda(const RnnLoopArgs<T>& args, cudaStream_t stream);
template <class T>
void gru_backward_cuda(const RnnLoopGradArgs<T>& args, cudaStream_t stream);
template <class T>
void augru_forward_cuda(const RnnLoopArgs<T>& args, cudaStream_t stream);
template <class T>
void augru_backward_cuda(const RnnLoopGradArgs<T>& args, cudaStream_t stream);
template <class T>
void lstm_forward_cuda(const RnnLoopArgs<T>& args, cudaStream_t stream);
template <class T>
void lstm_backward_cuda(const RnnLoopGradArgs<T>& args, cudaStream_t stream);
template <class T>
void rnn_forward_cuda(const RnnLoopArgs<T>& args, cudaStream_t stream);
template <class T>
void rnn_backward_cuda(const RnnLoopGradArgs<T>& args, cudaStream_t stream);

}  // namespace seqrec_fast
