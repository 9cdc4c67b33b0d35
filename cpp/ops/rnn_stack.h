// Recurrent layers on top of each other, in one or two directions.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/rnn.h"

namespace seqrec_fast {

// All of it must outlive the stack.
template <class T>
struct RnnStack {
    std::vector<const PackedRnn<T>*> layers;  // layer by layer, each forward, then backward
    std::int64_t directions = 1;
    // Optional: the input is item ids. One input vector per item, or per direction its row of
    // rnn_gate_table.
    MatrixView<const T> embedding;
    std::vector<MatrixView<const T>> gate_tables;

    bool takes_ids() const { return embedding.present() || !gate_tables.empty(); }
    std::int64_t n_items() const {
        return gate_tables.empty() ? embedding.rows : gate_tables.front().rows;
    }
    std::int64_t depth() const { return static_cast<std::int64_t>(layers.size()) / directions; }
    std::int64_t state_size() const { return layers.front()->state_size; }
    std::int64_t hidden_size() const { return layers.front()->hidden_size; }
    std::int64_t output_size() const { return directions * state_size(); }
    bool is_lstm() const { return layers.front()->kind == CellKind::lstm; }
};

// N events, B sessions, L layers of D directions, H hidden_size, S state_size.
template <class T>
struct RnnStackRun {
    const SequenceLayout* layout;
    MatrixView<const T> x;               // (N, I), or
    MatrixView<const std::int64_t> ids;  // (1, N)
    MatrixView<const T> attention;       // (1, N); cells with attention
    MatrixView<const T> h_0;             // (L * D * B, S); optional: zeros
    MatrixView<const T> c_0;             // (L * D * B, H); optional: zeros
    MatrixView<T> y;                     // (N, D * S); optional
    MatrixView<T> h_n;                   // (L * D * B, S)
    MatrixView<T> c_n;                   // (L * D * B, H); LSTM
};

template <class T>
void rnn_stack(const char* function, const RnnStack<T>& stack, const RnnStackRun<T>& run);

}  // namespace seqrec_fast
