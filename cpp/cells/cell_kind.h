// The recurrent cells, by name.
#pragma once

#include <cstdint>
#include <string>

namespace seqrec_fast {

enum class CellKind {
    gru,
    gru_reset_before,
    augru_paper,
    augru_tf,
    agru,
    lstm,
    rnn_tanh,
    rnn_relu
};

// A kind by its name above; throws std::invalid_argument for another one.
CellKind parse_cell_kind(const std::string& name);

// Matrices stacked in weight_ih and weight_hh: r, z, n or i, f, g, o or one.
constexpr std::int64_t gate_count(CellKind kind) {
    return kind == CellKind::lstm                                     ? 4
           : kind == CellKind::rnn_tanh || kind == CellKind::rnn_relu ? 1
                                                                      : 3;
}

// Every event comes with an attention score.
constexpr bool has_attention(CellKind kind) {
    return kind == CellKind::augru_paper || kind == CellKind::augru_tf || kind == CellKind::agru;
}

// Cells with the gates of PyTorch's GRU: r acts after the product with weight_hh.
constexpr bool is_reset_after(CellKind kind) {
    return kind == CellKind::gru || has_attention(kind);
}

// Values per unit and event that the forward pass saves for the backward pass:
// reset-after r, z, n, h_n; reset-before r, z, n; lstm i, f, g, o, c; a plain RNN has its output.
constexpr std::int64_t saved_count(CellKind kind) {
    return is_reset_after(kind)                 ? 4
           : kind == CellKind::gru_reset_before ? 3
           : kind == CellKind::lstm             ? 5
                                                : 0;
}

// Where backward keeps a gate's gradient: a slot per gate, in the gates' order. A reset-after GRU
// has four: n of the input, r, z, n of the state, so that the products with weight_ih and weight_hh
// both read neighbouring slots.
constexpr std::int64_t slot_count(CellKind kind) {
    return is_reset_after(kind) ? 4 : gate_count(kind);
}
constexpr std::int64_t gate_slot(CellKind kind, std::int64_t gate) {
    return is_reset_after(kind) ? (gate + 1) % 3 : gate;
}
constexpr std::int64_t first_recurrent_slot(CellKind kind) {
    return is_reset_after(kind) ? 1 : 0;
}

// A layer of at most this many units is computed in float64 even for float32 data: it fills no
// vector, so float64 costs nothing, and in a recurrence of so few numbers the rounding of each
// would show in the result. The Python layers widen and narrow the arrays.
constexpr std::int64_t kFloat64Units = 8;

}  // namespace seqrec_fast
