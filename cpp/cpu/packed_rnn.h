// The weights of one recurrent layer and direction, packed for the CPU kernels.
#pragma once

#include <cstdint>

#include "base/aligned_buffer.h"
#include "cells/cell_kind.h"
#include "cpu/packed_matrix.h"

namespace seqrec_fast {

// A layer's parameters as PyTorch stores them: row-major, gates stacked in the order r, z, n or
// i, f, g, o. Pointers may be null where "optional". G gates, S = state_size.
template <class T>
struct RnnWeights {
    CellKind kind;
    std::int64_t input_size;   // columns of weight_ih; unused without it
    std::int64_t hidden_size;  // H
    std::int64_t state_size;   // S: rows of weight_hr, else H
    const T* weight_ih;        // (G * H, input_size); optional: the input then is the input gates
    const T* weight_hh;        // (G * H, S)
    const T* bias_ih;          // (G * H); optional
    const T* bias_hh;          // (G * H); optional
    const T* weight_hr;        // (S, H), LSTM only; optional
};

// What the forward kernels read. Packed vectors hold 64 bytes of units; `block` b is the units
// b * lanes .. (b + 1) * lanes - 1. Vector order: block-major, then gate.
template <class T>
struct PackedRnn {
    // Below full precision only float32 weights can be packed.
    explicit PackedRnn(const RnnWeights<T>& weights, Precision precision = Precision::full);

    CellKind kind;
    Precision precision;
    std::int64_t input_size, hidden_size, state_size, gates;
    std::int64_t blocks;              // of hidden units
    PackedMatrix<T> input;            // x -> gates; empty without weight_ih
    PackedMatrix<T> recurrent;        // h -> gates; for gru_reset_before r and z alone
    PackedMatrix<T> candidate;        // gru_reset_before: r * h -> n
    PackedMatrix<T> projection;       // LSTM with weight_hr: o * tanh(c) -> h
    AlignedBuffer<T> input_bias;      // in vector order: b_ih, and b_hh where it may be added to it
    AlignedBuffer<T> candidate_bias;  // b_hn of a GRU, blocks * lanes
    bool finite_recurrent;            // no infinity and no NaN in weight_hh
    // float64 arithmetic for float32 data: states are rounded to float32 after every step, so that
    // a session has the same states whole and event by event.
    bool float32_states = false;

    std::int64_t n_vectors() const { return blocks * gates; }
    bool has_input_weights() const { return input.present(); }
    bool has_projection() const { return projection.present(); }
    std::int64_t nbytes() const;
};

// What the backward kernels read: gradients of the gates times weight_hh and weight_ih, their terms
// in the order of the slots of cells/cell_kind.h.
template <class T>
struct PackedRnnGrad {
    // Without `need_dx`, weight_ih is not packed; without `need_dh`, what only gives dh is not.
    PackedRnnGrad(const RnnWeights<T>& weights, bool need_dx, Precision precision = Precision::full,
                  bool need_dh = true);

    CellKind kind;
    Precision precision;
    std::int64_t input_size, hidden_size, state_size, gates, blocks;
    PackedMatrix<T> recurrent;   // d(gates) -> dh; reset-before: r, z
    PackedMatrix<T> candidate;   // gru_reset_before: d(n) -> d(r * h)
    PackedMatrix<T> input;       // d(gates) -> dx
    PackedMatrix<T> projection;  // LSTM with weight_hr: dh -> d(o * tanh(c))
    bool has_input_weights;      // else the input is the input gates

    bool has_projection() const { return projection.present(); }
};

}  // namespace seqrec_fast
