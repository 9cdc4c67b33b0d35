#include "cpu/packed_rnn.h"

#include <cstring>
#include <limits>
#include <type_traits>

namespace seqrec_fast {
namespace {

// Packs rows first_gate * H .. of a (G * H, depth) matrix with one panel per block of units.
template <class T>
PackedPanels<T> pack_gates(const T* weight, std::int64_t hidden_size, std::int64_t depth,
                           std::int64_t first_gate, std::int64_t gates) {
    const std::int64_t blocks = blocks_of<T>(hidden_size);
    PackedPanels<T> panels = gates == 1 ? PackedPanels<T>(hidden_size, depth, kMaxPanelVectors)
                                        : PackedPanels<T>::gated(hidden_size, gates, depth);
    for (std::int64_t block = 0; block < blocks; ++block) {
        const std::int64_t unit = block * kPackedLanes<T>;
        const std::int64_t lanes = std::min(kPackedLanes<T>, hidden_size - unit);
        const T* rows[kMaxPanelVectors * kPackedLanes<T>];
        for (std::int64_t gate = 0; gate < gates; ++gate) {
            const T* from = weight + ((first_gate + gate) * hidden_size + unit) * depth;
            for (std::int64_t lane = 0; lane < lanes; ++lane) {
                rows[gate * lanes + lane] = from + lane * depth;
            }
        }
        if (gates > 1 && lanes == kPackedLanes<T>) {
            panels.fill_panel_from_rows(block, rows);
            continue;
        }
        for (std::int64_t gate = 0; gate < gates; ++gate) {
            panels.fill_vector_from_rows(block * gates + gate, lanes, rows + gate * lanes);
        }
    }
    return panels;
}

// Packs the transpose: columns of a (G * H, columns) matrix become lanes; term k is unit k % H of
// gate (k / H - shift) % G.
template <class T>
PackedPanels<T> pack_transposed(const T* weight, std::int64_t hidden_size, std::int64_t columns,
                                std::int64_t first_gate, std::int64_t gates,
                                std::int64_t shift = 0) {
    PackedPanels<T> panels(columns, gates * hidden_size, kMaxPanelVectors);
    for (std::int64_t slot = 0; slot < gates; ++slot) {
        const std::int64_t gate = first_gate + (slot + gates - shift) % gates;
        const T* rows = weight + gate * hidden_size * columns;
        for (std::int64_t unit = 0; unit < hidden_size; ++unit) {
            panels.fill_term(slot * hidden_size + unit, rows + unit * columns, columns);
        }
    }
    return panels;
}

template <class T>
T bias_at(const T* bias, std::int64_t i) {
    return bias == nullptr ? T(0) : bias[i];
}

template <class T>
bool all_finite(const T* values, std::int64_t n) {
    using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
    constexpr T kInfinity = std::numeric_limits<T>::infinity();
    Bits infinity;
    std::memcpy(&infinity, &kInfinity, sizeof(Bits));
    // No way out of the loop, so that it is compiled to vectors.
    Bits found = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        Bits bits;
        std::memcpy(&bits, values + i, sizeof(Bits));
        found |= static_cast<Bits>((bits & infinity) == infinity);
    }
    return found == 0;
}

}  // namespace

template <class T>
PackedRnn<T>::PackedRnn(const RnnWeights<T>& w, Precision wanted)
    : kind(w.kind),
      precision(wanted),
      input_size(w.input_size),
      hidden_size(w.hidden_size),
      state_size(w.state_size),
      gates(gate_count(w.kind)),
      blocks(blocks_of<T>(w.hidden_size)),
      input_bias(static_cast<std::size_t>(blocks * gates * kPackedLanes<T>)),
      finite_recurrent(all_finite(w.weight_hh, gates * hidden_size * state_size)) {
    const bool reset_before = kind == CellKind::gru_reset_before;
    if (w.weight_ih != nullptr) {
        input = {pack_gates(w.weight_ih, hidden_size, input_size, 0, gates), precision};
    }
    recurrent = {pack_gates(w.weight_hh, hidden_size, state_size, 0, reset_before ? 2 : gates),
                 precision};
    if (reset_before) {
        candidate = {pack_gates(w.weight_hh, hidden_size, state_size, 2, 1), precision};
    }
    if (w.weight_hr != nullptr) {
        projection = {pack_gates(w.weight_hr, state_size, hidden_size, 0, 1), precision};
    }
    // b_hn of a GRU stays inside r * (...), so it is kept apart; all other b_hh join b_ih.
    const bool gru = gates == 3;
    input_bias.fill_zero();
    if (gru) {
        candidate_bias = AlignedBuffer<T>(static_cast<std::size_t>(blocks * kPackedLanes<T>));
        candidate_bias.fill_zero();
    }
    for (std::int64_t unit = 0; unit < hidden_size; ++unit) {
        const std::int64_t block = unit / kPackedLanes<T>, lane = unit % kPackedLanes<T>;
        for (std::int64_t gate = 0; gate < gates; ++gate) {
            const std::int64_t i = gate * hidden_size + unit;
            T bias = bias_at(w.bias_ih, i);
            if (gru && gate == 2) {
                candidate_bias.data()[unit] = bias_at(w.bias_hh, i);
            } else {
                bias += bias_at(w.bias_hh, i);
            }
            input_bias.data()[(block * gates + gate) * kPackedLanes<T> + lane] = bias;
        }
    }
}

template <class T>
std::int64_t PackedRnn<T>::nbytes() const {
    return input.nbytes() + recurrent.nbytes() + candidate.nbytes() + projection.nbytes() +
           static_cast<std::int64_t>((input_bias.size() + candidate_bias.size()) * sizeof(T));
}

template <class T>
PackedRnnGrad<T>::PackedRnnGrad(const RnnWeights<T>& w, bool need_dx, Precision wanted,
                                bool need_dh)
    : kind(w.kind),
      precision(wanted),
      input_size(w.input_size),
      hidden_size(w.hidden_size),
      state_size(w.state_size),
      gates(gate_count(w.kind)),
      blocks(blocks_of<T>(w.hidden_size)),
      has_input_weights(w.weight_ih != nullptr) {
    if (w.weight_ih != nullptr && need_dx) {
        input = {
            pack_transposed(w.weight_ih, hidden_size, input_size, 0, gates, gate_slot(kind, 0)),
            precision};
    }
    const bool reset_before = kind == CellKind::gru_reset_before;
    if (need_dh) {
        recurrent = {
            pack_transposed(w.weight_hh, hidden_size, state_size, 0, reset_before ? 2 : gates),
            precision};
    }
    if (reset_before) {
        candidate = {pack_transposed(w.weight_hh, hidden_size, state_size, 2, 1), precision};
    }
    if (w.weight_hr != nullptr) {
        projection = {pack_transposed(w.weight_hr, state_size, hidden_size, 0, 1), precision};
    }
}

template struct PackedRnn<float>;
template struct PackedRnn<double>;
template struct PackedRnnGrad<float>;
template struct PackedRnnGrad<double>;

}  // namespace seqrec_fast
