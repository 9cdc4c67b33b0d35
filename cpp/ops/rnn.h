// Recurrent layers: checks, then the kernel of the cell. The C++ API of the package.
//
// T is float or double. N events, B sessions, I input_size, H hidden_size, S state_size (H but for
// an LSTM with projection), G gates. All matrices are row-major; "optional" ones may be absent.
// `function` names the caller in messages. Every mismatch throws std::invalid_argument before
// any memory is written.
#pragma once

#include "base/sequence_layout.h"
#include "base/tensor_view.h"
#include "cpu/packed_rnn.h"
#include "cpu/rnn_noise.h"

namespace seqrec_fast {

template <class T>
struct RnnParameters {
    CellKind kind;
    MatrixView<const T> weight_ih;  // (G * H, I); optional: the input then is the input gates
    MatrixView<const T> weight_hh;  // (G * H, S)
    MatrixView<const T> bias_ih;    // (1, G * H); optional
    MatrixView<const T> bias_hh;    // (1, G * H); optional
    MatrixView<const T> weight_hr;  // (S, H), LSTM only; optional
};

// The parameters as the packing wants them.
template <class T>
RnnWeights<T> checked_weights(const char* function, const RnnParameters<T>& parameters);

template <class T>
struct RnnForward {
    const PackedRnn<T>* weights;
    const SequenceLayout* layout;
    // (N, I), or (N, G * H) without weight_ih; with ids the rows of V items: event n reads row
    // ids[n] of x, or of gate_table, which then replaces x.
    MatrixView<const T> x;
    MatrixView<const std::int64_t> ids;    // (1, N); optional
    MatrixView<const T> gate_table;        // (V, gate_table_width(...)); optional, needs ids
    MatrixView<const T> h_0;               // (B, S); optional: zeros
    MatrixView<const T> c_0;               // (B, H); optional: zeros
    MatrixView<const std::uint8_t> reset;  // (1, N); optional. Non-zero: state zeroed before
    bool reverse = false;
    MatrixView<T> y;                  // (N, S), rows may be strided; optional
    MatrixView<T> h_n;                // (B, S)
    MatrixView<T> c_n;                // (B, H); LSTM
    MatrixView<T> saved;              // (N, saved_width(...)); optional: what backward needs
    const RnnNoise* noise = nullptr;  // optional
    MatrixView<const T> attention;    // (1, N); cells with attention
};

template <class T>
void rnn_forward(const char* function, const RnnForward<T>& call);

// Columns of a gate table, in elements.
template <class T>
std::int64_t gate_table_width(const PackedRnn<T>& weights);

// out = the input gates of every row of `x` (V, I), with their bias: bit for bit those that
// rnn_forward computes from x itself.
template <class T>
void rnn_gate_table(const char* function, const PackedRnn<T>& weights, const MatrixView<const T>& x,
                    const MatrixView<T>& out);

// Columns of `saved`, in elements.
template <class T>
std::int64_t saved_width(CellKind kind, std::int64_t hidden_size);

// Gradients of one forward call. Those of the weights are optional, each for itself.
template <class T>
struct RnnBackward {
    const PackedRnnGrad<T>* weights;
    const SequenceLayout* layout;
    MatrixView<const T> x, h_0, c_0;       // as in forward; x is read for dweight_ih alone
    MatrixView<const std::uint8_t> reset;  // as in forward
    bool reverse = false;
    MatrixView<const T> y, saved;     // as written by forward
    MatrixView<const T> dy;           // (N, S)
    MatrixView<const T> dh_n;         // (B, S)
    MatrixView<const T> dc_n;         // (B, H), LSTM
    MatrixView<T> dx;                 // as x; optional
    MatrixView<T> dh_0;               // (B, S)
    MatrixView<T> dc_0;               // (B, H), LSTM
    MatrixView<T> dweight_ih;         // (G * H, I)
    MatrixView<T> dweight_hh;         // (G * H, S)
    MatrixView<T> dbias_ih;           // (1, G * H)
    MatrixView<T> dbias_hh;           // (1, G * H)
    MatrixView<T> dweight_hr;         // (S, H), LSTM with projection
    const RnnNoise* noise = nullptr;  // as in forward
    MatrixView<const T> attention;    // as in forward
    MatrixView<T> dattention;         // (1, N); cells with attention
};

template <class T>
void rnn_backward(const char* function, const RnnBackward<T>& call);

// Of the products of a backward pass: where bfloat16 is computed by float32 multiply-adds, it is
// slower than float32, which then serves the gradients better.
Precision backward_precision(Precision forward);

}  // namespace seqrec_fast
