// The time loops of recurrent layers on a GPU. Products over all events at once, x W_ih' before the
// loop and the weights' gradients after it, are the caller's: libraries of matrix products do them.
//
// N events, B sessions, H hidden_size, G gates. Row-major, in the GPU's memory; "optional" pointers
// may be null.
#pragma once

#include <cstdint>

#include "base/half.h"
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

// By the type of the arrays: what loops compute in, and what weights are packed as.
template <class S>
struct LoopTypes {
    using Sum = S;
    using Packed = Bfloat16;
};
template <>
struct LoopTypes<Bfloat16> {
    using Sum = float;
    using Packed = Bfloat16;
};
template <>
struct LoopTypes<Float16> {
    using Sum = float;
    using Packed = Float16;
};

// weight_hh as a pass multiplies by it: forward (H, G * H), transposed; backward (G * H, H). Those
// of experts lie one after another, as do their biases.
template <class S>
struct RecurrentWeights {
    const S* full;
    const typename LoopTypes<S>::Packed* packed;  // in place of it, cuda/rnn_tensor_product.h
    std::int64_t stride;                          // from one expert's to the next
};

// Recurrent dropout and zoneout (cpu/rnn_noise.h has what they are).
enum NoiseBit : std::uint8_t { kDropped = 1, kKeepsH = 2, kKeepsC = 4 };
template <class Sum>
struct LoopNoise {
    const std::uint8_t* bits;  // (N, H), of NoiseBit; optional: zoneout by expectation, no dropout
    Sum candidate_scale;       // of candidates that are not dropped: 1 / (1 - recurrent_dropout)
    Sum zoneout;               // 0: none
};

// Draws the bits: the numbers are those of the CPU for the same seed, stream and sessions.
struct RnnNoiseArgs {
    std::int64_t hidden;
    DeviceLayout layout;
    const std::int64_t* seed;      // (1), in the GPU's memory, so that a graph can be replayed
    const std::int64_t* sessions;  // (B): the number each counts as; optional: its place
    std::uint32_t stream;
    double recurrent_dropout, zoneout;
    std::uint8_t* bits;  // (N, H)
};
void rnn_noise_cuda(const RnnNoiseArgs& args, cudaStream_t stream);

// A part of one step of all sessions. Their product with weight_hh is the caller's then, between
// two parts: of weights that no cluster of blocks has room for. Rows are sessions in their `order`,
// those of an expert one after another.
enum class StepPart {
    start,   // loads the states
    first,   // of forward, from the sums of all gates; of backward, to the gradients of the gates
    second,  // gru_reset_before: of forward the candidate, of backward the reset gate
    end      // of backward: stores the states
};
template <class S>
struct OneStep {
    using Sum = typename LoopTypes<S>::Sum;
    StepPart part;
    std::int64_t index;     // of the step
    std::int64_t rows;      // that are worked on, of each expert: the first of its B / experts
    std::int64_t sum_rows;  // of each expert in `sums`
    const Sum* sums;        // (experts, sum_rows, W): products of the part before
    S* left;                // (B, W): the left side of the product that follows
    typename LoopTypes<S>::Packed* left_packed;  // in place of it, if `packed` weights are
    Sum* h;                                      // (B, H): states or their gradients
    Sum* other;  // (B, H), of LSTMs c, of gru_reset_before the update gate

    bool present() const { return h != nullptr; }
};

// S is float, double, Bfloat16 or Float16; of 16-bit arrays the weights are packed.
template <class S>
struct RnnLoopArgs {
    using T = S;
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
    LoopNoise<typename LoopTypes<S>::Sum> noise;
    bool reverse;     // newest event first
    T* y;             // (N, H)
    T* h_n;           // (B, H)
    T* c_n;           // (B, H), LSTM
    T* saved;         // (N, saved_count, H) for the backward pass; optional
    OneStep<S> step;  // in place of the weights
};

template <class S>
struct RnnLoopGradArgs {
    using T = S;
    CellKind kind;
    std::int64_t hidden;
    DeviceLayout layout;
    RecurrentWeights<T> weights;
    const T* h_0;  // these as in forward
    const T* c_0;
    const std::uint8_t* reset;
    const T* attention;
    LoopNoise<typename LoopTypes<S>::Sum> noise;
    bool reverse;
    const T* y;       // as written by the forward pass
    const T* saved;   // the same
    const T* dy;      // (N, H)
    const T* dh_n;    // (B, H)
    const T* dc_n;    // (B, H), LSTM
    T* dgates;        // (N, slot_count, H): of the sums of every gate, see cells/cell_kind.h
    T* h_before;      // (N, H): what weight_hh was multiplied by
    T* rh_before;     // (N, H), gru_reset_before: r * h_before, the same for the candidate
    T* dh_0;          // (B, H)
    T* dc_0;          // (B, H), LSTM
    T* dattention;    // (N); cells with attention
    OneStep<S> step;  // in place of the weights
};

// Weights of more bytes are multiplied faster by the caller, see OneStep: no cluster of blocks has
// room for them.
std::int64_t rnn_most_kept_bytes();

template <class S>
void gru_forward_cuda(const RnnLoopArgs<S>& args, cudaStream_t stream);
template <class S>
void gru_backward_cuda(const RnnLoopGradArgs<S>& args, cudaStream_t stream);
template <class S>
void augru_forward_cuda(const RnnLoopArgs<S>& args, cudaStream_t stream);
template <class S>
void augru_backward_cuda(const RnnLoopGradArgs<S>& args, cudaStream_t stream);
template <class S>
void lstm_forward_cuda(const RnnLoopArgs<S>& args, cudaStream_t stream);
template <class S>
void lstm_backward_cuda(const RnnLoopGradArgs<S>& args, cudaStream_t stream);
template <class S>
void rnn_forward_cuda(const RnnLoopArgs<S>& args, cudaStream_t stream);
template <class S>
void rnn_backward_cuda(const RnnLoopGradArgs<S>& args, cudaStream_t stream);

}  // namespace seqrec_fast
