// The recurrent cells, by name.
#pragma once

#include <cstdint>
#include <string>

namespace seqrec_fast {

enum class CellKind { gru, gru_reset_before, lstm, rnn_tanh, rnn_relu };

// "gru", "gru_reset_before", "lstm", "rnn_tanh", "rnn_relu"; throws std::invalid_argument else.
CellKind parse_cell_kind(const std::string& name);

// Matrices stacked in weight_ih and weight_hh: r, z, n or i, f, g, o or one.
constexpr std::int64_t gate_count(CellKind kind) {
    return kind == CellKind::lstm                                        ? 4
           : kind == CellKind::gru || kind == CellKind::gru_reset_before ? 3
                                                                         : 1;
}

// Values per unit and event that the forward pass saves for the backward pass:
// gru r, z, n, h_n; reset-before r, z, n; lstm i, f, g, o, c; a plain RNN has its output.
constexpr std::int64_t saved_count(CellKind kind) {
    return kind == CellKind::gru                ? 4
           : kind == CellKind::gru_reset_before ? 3
           : kind == CellKind::lstm             ? 5
                                                : 0;
}

// Where backward keeps a gate's gradient: a slot per gate, in the gates' order. A reset-after GRU
// has four: n of the input, r, z, n of the state, so that the products with weight_ih and weight_hh
// both read neighbouring slots.
constexpr std::int64_t slot_count(CellKind kind) {
    return kind == CellKind::gru ? 4 : gate_count(kind);
}
constexpr std::int64_t gate_slot(CellKind kind, std::int64_t gate) {
    return kind == CellKind::gru ? (gate + 1) % 3 : gate;
}
constexpr std::int64_t first_recurrent_slot(CellKind kind) {
    return kind == CellKind::gru ? 1 : 0;
}

// A layer of at most this many units is computed in float64 even for float32 data: it fills no
// vector, so float64 costs nothing, and in a recurrence of so few numbers the rounding of each
// would show in the result. The Python layers widen and narrow the arrays.
constexpr std::int64_t kFloat64Units = 8;

}  // namespace seqrec_fast
