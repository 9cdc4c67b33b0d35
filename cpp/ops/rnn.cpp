#include "ops/rnn.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/rnn_kernels.h"
#include "ops/rnn_checks.h"

namespace seqrec_fast {
namespace {

template <class T>
void check_output_rows(const char* function, const MatrixView<T>& y, std::int64_t rows,
                       std::int64_t columns) {
    SEQREC_CHECK(!y.present() || (y.rows == rows && y.columns == columns), function,
                 ": y has shape (", y.rows, ", ", y.columns, "); expected (", rows, ", ", columns,
                 ")");
}

// 8-bit states have a fixed range where the cell keeps them in it, as it does from h_0 in it and
// with attention from 0 to 1.
template <class T>
void check_state_range(const char* function, const RnnForward<T>& call) {
    const PackedRnn<T>& weights = *call.weights;
    if (weights.precision != Precision::int8 || weights.has_projection() ||
        weights.kind == CellKind::rnn_relu) {
        return;
    }
    const auto check = [&](const char* argument, const MatrixView<const T>& values, T least) {
        const auto outside = [&](T value) { return value < least || value > 1; };
        const T* const end = values.data + (values.present() ? values.rows * values.columns : 0);
        // No way out of the loop, so that it is compiled to vectors.
        unsigned found = 0;
        for (const T* value = values.data; value < end; ++value) {
            found |= static_cast<unsigned>(*value < least) | static_cast<unsigned>(*value > 1);
        }
        if (found != 0) {
            SEQREC_CHECK(false, function, ": ", argument, " has the value ",
                         *std::find_if(values.data, end, outside), "; expected ", least,
                         " to 1 because the precision is int8");
        }
    };
    check("h_0", call.h_0, T(-1));
    check("attention", call.attention, T(0));
}

template <class T>
void check_input(const char* function, const RnnForward<T>& call) {
    const PackedRnn<T>& weights = *call.weights;
    const std::int64_t events = call.layout->n_events();
    const std::int64_t width =
        weights.has_input_weights() ? weights.input_size : weights.gates * weights.hidden_size;
    check_shape(function, "x", call.x, call.ids.present() ? call.x.rows : events, width);
    check_shape(function, "ids", call.ids, 1, events);
    check_shape(function, "gate_table", call.gate_table, call.gate_table.rows,
                gate_table_width(weights));
    SEQREC_CHECK(!call.gate_table.present() || (call.ids.present() && !call.x.present()), function,
                 ": gate_table is given; expected ids beside it and no x");
    const std::int64_t items = call.gate_table.present() ? call.gate_table.rows : call.x.rows;
    for (std::int64_t i = 0; call.ids.present() && i < events; ++i) {
        const std::int64_t id = call.ids.data[i];
        SEQREC_CHECK(id >= 0 && id < items, function, ": ids[", i, "] is ", id, "; expected 0 to ",
                     items - 1);
    }
}

}  // namespace

template <class T>
RnnWeights<T> checked_weights(const char* function, const RnnParameters<T>& p) {
    const std::int64_t gates = gate_count(p.kind);
    SEQREC_CHECK(p.weight_hh.present() && p.weight_hh.rows > 0 && p.weight_hh.rows % gates == 0,
                 function, ": weight_hh has ", p.weight_hh.rows, " rows; expected ", gates,
                 " times hidden_size");
    const std::int64_t hidden = p.weight_hh.rows / gates;
    const std::int64_t state = p.weight_hr.present() ? p.weight_hr.rows : hidden;
    SEQREC_CHECK(!p.weight_hr.present() || p.kind == CellKind::lstm, function,
                 ": weight_hr belongs to an LSTM only");
    check_shape(function, "weight_hr", p.weight_hr, state, hidden);
    check_shape(function, "weight_hh", p.weight_hh, gates * hidden, state);
    check_shape(function, "weight_ih", p.weight_ih, gates * hidden, p.weight_ih.columns);
    check_shape(function, "bias_ih", p.bias_ih, 1, gates * hidden);
    check_shape(function, "bias_hh", p.bias_hh, 1, gates * hidden);
    return {p.kind,         p.weight_ih.columns, hidden,
            state,          p.weight_ih.data,    p.weight_hh.data,
            p.bias_ih.data, p.bias_hh.data,      p.weight_hr.data};
}

template <class T>
std::int64_t gate_table_width(const PackedRnn<T>& weights) {
    return weights.n_vectors() * kPackedLanes<T>;
}

template <class T>
void rnn_gate_table(const char* function, const PackedRnn<T>& weights, const MatrixView<const T>& x,
                    const MatrixView<T>& out) {
    SEQREC_CHECK(weights.has_input_weights(), function, ": the layer has no weight_ih");
    check_shape(function, "x", x, x.rows, weights.input_size);
    check_shape(function, "out", out, x.rows, gate_table_width(weights));
    const auto rows = row_pointers(x.data, x.rows, x.columns);
    rnn_input_gates_table_cpu<T>({&weights, rows.data(), x.rows, out.data});
}

template <class T>
std::int64_t saved_width(CellKind kind, std::int64_t hidden_size) {
    return saved_count(kind) * padded_to_vectors<T>(hidden_size);
}

template <class T>
void rnn_forward(const char* function, const RnnForward<T>& call) {
    const PackedRnn<T>& weights = *call.weights;
    const std::int64_t events = call.layout->n_events(), batch = call.layout->batch();
    const bool lstm = weights.kind == CellKind::lstm;
    check_input(function, call);
    check_noise(function, call.noise, batch);
    check_shape(function, "h_0", call.h_0, batch, weights.state_size);
    check_shape(function, "attention", call.attention, 1, events);
    check_present(function, "attention", call.attention, has_attention(weights.kind), events);
    check_state_range(function, call);
    check_shape(function, "c_0", call.c_0, batch, weights.hidden_size);
    check_shape(function, "reset", call.reset, 1, events);
    check_output_rows(function, call.y, events, weights.state_size);
    check_shape(function, "h_n", call.h_n, batch, weights.state_size);
    check_shape(function, "c_n", call.c_n, batch, weights.hidden_size);
    check_shape(function, "saved", call.saved, events,
                saved_width<T>(weights.kind, weights.hidden_size));
    check_present(function, "c_n", call.c_n, lstm, batch * weights.hidden_size);
    SEQREC_CHECK(lstm || !call.c_0.present(), function, ": c_0 belongs to an LSTM only");
    expect_fresh(call.y);
    expect_fresh(call.saved);
    const RnnForwardArgs<T> args{
        call.weights,         call.layout,     call.x.data,       call.ids.data,
        call.gate_table.data, call.h_0.data,   call.c_0.data,     call.reset.data,
        call.reverse,         call.y.data,     call.y.row_stride, call.h_n.data,
        call.c_n.data,        call.saved.data, call.noise,        call.attention.data};
    switch (weights.kind) {
        case CellKind::gru:
        case CellKind::gru_reset_before: return gru_forward_cpu(args);
        case CellKind::augru_paper:
        case CellKind::augru_tf:
        case CellKind::agru: return augru_forward_cpu(args);
        case CellKind::lstm: return lstm_forward_cpu(args);
        case CellKind::rnn_tanh:
        case CellKind::rnn_relu: return rnn_forward_cpu(args);
    }
}

template RnnWeights<float> checked_weights(const char*, const RnnParameters<float>&);
template RnnWeights<double> checked_weights(const char*, const RnnParameters<double>&);
template std::int64_t gate_table_width(const PackedRnn<float>&);
template std::int64_t gate_table_width(const PackedRnn<double>&);
template void rnn_gate_table(const char*, const PackedRnn<float>&, const MatrixView<const float>&,
                             const MatrixView<float>&);
template void rnn_gate_table(const char*, const PackedRnn<double>&, const MatrixView<const double>&,
                             const MatrixView<double>&);
template std::int64_t saved_width<float>(CellKind, std::int64_t);
template std::int64_t saved_width<double>(CellKind, std::int64_t);
template void rnn_forward(const char*, const RnnForward<float>&);
template void rnn_forward(const char*, const RnnForward<double>&);

}  // namespace seqrec_fast
