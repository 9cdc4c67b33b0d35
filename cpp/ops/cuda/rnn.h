// The time loops of recurrent layers on a GPU: checked, then started on a stream. Arrays are in the
// GPU's memory; what offsets, lengths and orders hold is not looked at. T is float, double,
// Bfloat16 or Float16.
//
// N events, B sessions, H hidden_size, G gates.
#pragma once

#include <cstdint>

#include "base/tensor_view.h"
#include "cells/cell_kind.h"
#include "cuda/rnn_kernels.h"
#include "cuda/simt.h"

namespace seqrec_fast {

// Padded: batch, seq_len, batch_first. Ragged: batch, `first` and `length`. PyTorch's packed form:
// batch, `step` and `length`.
struct DeviceSequences {
    std::int64_t batch = 0, seq_len = 0;
    bool batch_first = false;
    MatrixView<const std::int64_t> first;   // (1, B): row of the first event of each session
    MatrixView<const std::int64_t> step;    // (1, T): row of the first event of each step
    MatrixView<const std::int64_t> length;  // (1, B)
    MatrixView<const std::int64_t> order;   // (1, B): sessions by length; optional
    // Ragged only: B / experts sessions of each in a row, also in `order`; each expert has weights
    // of its own, which lie one after another.
    std::int64_t experts = 1;
};

// Of the two one; of 16-bit arrays the second, for float64 the first. With `packed`, bfloat16 for T
// float, the product of a step is computed on tensor cores; its order: cuda/rnn_tensor_product.h.
template <class T>
struct RecurrentMatrix {
    // forward: (experts * H, G * H), each transposed; backward (experts * G * H, H)
    MatrixView<const T> full;
    // (1, experts * packed_size(H, G))
    MatrixView<const typename LoopTypes<T>::Packed> packed;
};

// Recurrent dropout and zoneout, as cpu/rnn_noise.h.
struct DeviceNoise {
    double recurrent_dropout = 0, zoneout = 0;
    MatrixView<const std::uint8_t> bits;  // (N, H), of rnn_noise; absent: zoneout by expectation
};

struct NoiseDraw {
    DeviceSequences sequences;
    double recurrent_dropout, zoneout;
    MatrixView<const std::int64_t> seed;      // (1, 1)
    std::uint32_t stream;                     // tells layers and directions of one call apart
    MatrixView<const std::int64_t> sessions;  // (1, B): what each counts as; optional: its place
    MatrixView<std::uint8_t> bits;            // (N, H): NoiseBit of cuda/rnn_kernels.h
};
// Draws what forward and backward of one call take; the same as on the CPU.
void rnn_noise(const NoiseDraw& call, cudaStream_t stream);

std::int64_t packed_size(std::int64_t hidden, std::int64_t gates);

// In place of weight_hh: a call does a part of one step, and the caller multiplies between calls.
// What the arrays are, and which parts there are, says OneStep in cuda/rnn_kernels.h.
template <class T>
struct StepCall {
    using Sum = typename LoopTypes<T>::Sum;
    StepPart part = StepPart::start;
    std::int64_t index = 0, rows = 0, sum_rows = 0;
    MatrixView<const Sum> sums;  // (experts * sum_rows, W)
    MatrixView<T> left;          // (B, W); of the two one, the second for 16-bit arrays
    MatrixView<typename LoopTypes<T>::Packed> left_packed;
    MatrixView<Sum> h, other;  // (B, H)
};

template <class T>
struct RnnLoop {
    CellKind kind;
    DeviceSequences sequences;
    RecurrentMatrix<T> weight_hh;
    MatrixView<const T> x_gates;           // (N, G * H): W_ih x + b_ih
    MatrixView<const T> bias_hh;           // (experts, G * H); optional
    MatrixView<const T> h_0;               // (B, H); optional: zeros
    MatrixView<const T> c_0;               // (B, H), LSTM; optional: zeros
    MatrixView<const std::uint8_t> reset;  // (1, N); optional. Non-zero: state zeroed before
    MatrixView<const T> attention;         // (1, N); cells with attention
    DeviceNoise noise;
    bool reverse;
    MatrixView<T> y;      // (N, H)
    MatrixView<T> h_n;    // (B, H)
    MatrixView<T> c_n;    // (B, H), LSTM
    MatrixView<T> saved;  // (N, saved_count * H): value after value; optional
    StepCall<T> step;     // absent: all steps in one call
};

template <class T>
void rnn_forward(const RnnLoop<T>& call, cudaStream_t stream);

// Gradients of the gates' sums; those of the weights and of x are products of them.
template <class T>
struct RnnLoopGrad {
    CellKind kind;
    DeviceSequences sequences;
    RecurrentMatrix<T> weight_hh;
    MatrixView<const T> h_0, c_0;          // as in forward
    MatrixView<const std::uint8_t> reset;  // as in forward
    MatrixView<const T> attention;         // as in forward
    DeviceNoise noise;                     // as in forward
    bool reverse;
    MatrixView<const T> y, saved;  // as written by forward
    MatrixView<const T> dy;        // (N, H)
    MatrixView<const T> dh_n;      // (B, H)
    MatrixView<const T> dc_n;      // (B, H), LSTM
    MatrixView<T> dgates;          // (N, slot_count * H)
    MatrixView<T> h_before;        // (N, H): the state each event started from
    MatrixView<T> rh_before;       // (N, H), gru_reset_before: r * h_before
    MatrixView<T> dh_0;            // (B, H)
    MatrixView<T> dc_0;            // (B, H), LSTM
    MatrixView<T> dattention;      // (1, N); cells with attention
    StepCall<T> step;              // as in forward
};

template <class T>
void rnn_backward(const RnnLoopGrad<T>& call, cudaStream_t stream);

}  // namespace seqrec_fast
