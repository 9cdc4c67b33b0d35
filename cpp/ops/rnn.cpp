#include "ops/rnn.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/rnn_kernels.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {
namespace {

// `size`: the elements of a required one; without any it may be absent.
template <class T>
void check_required(const char* function, const char* argument, const MatrixView<T>& view,
                    bool required, std::int64_t size) {
    SEQREC_CHECK(view.present() == required || (required && size == 0), function, ": ", argument,
                 required ? " is missing" : " does not belong here");
}

template <class T>
void check_output_rows(const char* function, const MatrixView<T>& y, std::int64_t rows,
                       std::int64_t columns) {
    SEQREC_CHECK(!y.present() || (y.rows == rows && y.columns == columns), function,
                 ": y has shape (", y.rows, ", ", y.columns, "); expected (", rows, ", ", columns,
                 ")");
}

template <class T>
std::vector<const T*> row_pointers(const T* matrix, std::int64_t rows, std::int64_t columns) {
    std::vector<const T*> pointers(static_cast<std::size_t>(rows));
    for (std::int64_t i = 0; i < rows; ++i) {
        pointers[static_cast<std::size_t>(i)] = matrix + i * columns;
    }
    return pointers;
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
        // Counted, which is many times as fast as stopping at the first.
        if (std::count_if(values.data, end, outside) > 0) {
            SEQREC_CHECK(false, function, ": ", argument, " has the value ",
                         *std::find_if(values.data, end, outside), "; expected ", least,
                         " to 1 because the precision is int8");
        }
    };
    check("h_0", call.h_0, T(-1));
    check("attention", call.attention, T(0));
}

void check_noise(const char* function, const RnnNoise* noise, std::int64_t batch) {
    if (noise == nullptr) {
        return;
    }
    const auto check_rate = [&](const char* name, double rate) {
        SEQREC_CHECK(rate >= 0 && rate < 1, function, ": ", name, " is ", rate,
                     "; expected 0 <= ", name, " < 1");
    };
    check_rate("recurrent_dropout", noise->recurrent_dropout);
    check_rate("zoneout", noise->zoneout);
    const auto sessions = static_cast<std::int64_t>(noise->sessions.size());
    SEQREC_CHECK(sessions == 0 || sessions == batch, function, ": sessions has ", sessions,
                 " entries; expected ", batch, ", the sessions of the batch");
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
    check_required(function, "attention", call.attention, has_attention(weights.kind), events);
    check_state_range(function, call);
    check_shape(function, "c_0", call.c_0, batch, weights.hidden_size);
    check_shape(function, "reset", call.reset, 1, events);
    check_output_rows(function, call.y, events, weights.state_size);
    check_shape(function, "h_n", call.h_n, batch, weights.state_size);
    check_shape(function, "c_n", call.c_n, batch, weights.hidden_size);
    check_shape(function, "saved", call.saved, events,
                saved_width<T>(weights.kind, weights.hidden_size));
    check_required(function, "c_n", call.c_n, lstm, batch * weights.hidden_size);
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

namespace {

// Matrices between the reverse loop and the sums over events; each empty unless the cell has it.
template <class T>
struct GateGradients {
    AlignedBuffer<T> dx_gates_storage;
    T* dx_gates;  // (N, G * H): with respect to W_ih x + b_ih
    AlignedBuffer<T>
        dh_gates_n;  // (N, H), reset-after: with respect to W_hn h + b_hn (r, z as dx_gates)
    AlignedBuffer<T> rh_before;    // (N, H), gru_reset_before: r * h_before
    AlignedBuffer<T> dprojected;   // (N, S), LSTM with projection: with respect to h after it
    AlignedBuffer<T> unprojected;  // (N, H), LSTM with projection: o * tanh(c)

    explicit GateGradients(const RnnBackward<T>& call) {
        const PackedRnnGrad<T>& weights = *call.weights;
        const auto matrix = [&](std::int64_t columns, bool wanted) {
            return wanted ? AlignedBuffer<T>(
                                static_cast<std::size_t>(call.layout->n_events() * columns))
                          : AlignedBuffer<T>();
        };
        // Without weight_ih the input is the input gates, and so is its gradient.
        const bool is_dx = call.dx.present() && !weights.has_input_weights;
        dx_gates_storage = matrix(weights.gates * weights.hidden_size, !is_dx);
        dx_gates = is_dx ? call.dx.data : dx_gates_storage.data();
        dh_gates_n = matrix(weights.hidden_size, is_reset_after(weights.kind));
        rh_before = matrix(weights.hidden_size, weights.kind == CellKind::gru_reset_before);
        dprojected = matrix(weights.state_size, weights.has_projection());
        unprojected = matrix(weights.hidden_size, weights.has_projection());
    }
};

// The state each event started from: that after the event before it, h_0, or `zeros`.
template <class T>
std::vector<const T*> states_before(const RnnBackward<T>& call, const T* zeros) {
    const SequenceLayout& layout = *call.layout;
    const std::int64_t width = call.weights->state_size;
    std::vector<const T*> rows(static_cast<std::size_t>(layout.n_events()));
    for (std::int64_t b = 0; b < layout.batch(); ++b) {
        const T* before = call.h_0.present() ? call.h_0.data + b * width : zeros;
        const std::int64_t steps = layout.length(b);
        for (std::int64_t s = 0; s < steps; ++s) {
            const std::int64_t event = layout.row(b, call.reverse ? steps - 1 - s : s);
            const bool from_zero = call.reset.present() && call.reset.data[event] != 0;
            rows[static_cast<std::size_t>(event)] = from_zero ? zeros : before;
            before = call.y.data + event * width;
        }
    }
    return rows;
}

//     dW_ih = dx_gates' x           db_ih = column sums of dx_gates
//     dW_hh = dh_gates' h_before    db_hh = column sums of dh_gates
// where dh_gates is dx_gates, but for a GRU: reset-after has dh_gates_n as its last H columns,
// reset-before has rh_before in place of h_before for its last H columns.
// LSTM with projection: dW_hr = dprojected' unprojected.
template <class T>
void weight_gradients(const RnnBackward<T>& call, const GateGradients<T>& gradients,
                      const std::vector<const T*>& h_before) {
    const PackedRnnGrad<T>& weights = *call.weights;
    const CellKind kind = weights.kind;
    const std::int64_t events = call.layout->n_events(), hidden = weights.hidden_size;
    const std::int64_t state = weights.state_size, all = weights.gates * hidden;
    const bool reset_after = is_reset_after(kind),
               reset_before = kind == CellKind::gru_reset_before;
    const std::int64_t plain = reset_after || reset_before ? 2 * hidden : all;
    const auto rest = [&](T* bias) { return bias == nullptr ? nullptr : bias + plain; };

    if (call.dweight_ih.present() || call.dbias_ih.present()) {
        const bool wanted = call.dweight_ih.present();
        const std::int64_t width = wanted ? call.x.columns : 0;
        const auto x = row_pointers(call.x.data, wanted ? events : 0, width);
        rnn_weight_grad_cpu<T>({gradients.dx_gates, all, all, events, x.data(), width,
                                call.dweight_ih.data, call.dbias_ih.data, weights.precision});
    }
    if (call.dweight_hh.present() || call.dbias_hh.present()) {
        T* const weight = call.dweight_hh.data;
        T* const weight_n = weight == nullptr ? nullptr : weight + plain * state;
        T* const bias = call.dbias_hh.data;
        rnn_weight_grad_cpu<T>({gradients.dx_gates, all, plain, events, h_before.data(), state,
                                weight, bias, weights.precision});
        if (reset_after) {
            rnn_weight_grad_cpu<T>({gradients.dh_gates_n.data(), hidden, hidden, events,
                                    h_before.data(), state, weight_n, rest(bias),
                                    weights.precision});
        }
        if (reset_before) {
            const auto rh = row_pointers(gradients.rh_before.data(), events, hidden);
            rnn_weight_grad_cpu<T>({gradients.dx_gates + plain, all, hidden, events, rh.data(),
                                    hidden, weight_n, rest(bias), weights.precision});
        }
    }
    if (call.dweight_hr.present()) {
        const auto rows = row_pointers(gradients.unprojected.data(), events, hidden);
        rnn_weight_grad_cpu<T>({gradients.dprojected.data(), state, state, events, rows.data(),
                                hidden, call.dweight_hr.data, nullptr, weights.precision});
    }
}

template <class T>
void check_backward(const char* function, const RnnBackward<T>& call) {
    const PackedRnnGrad<T>& weights = *call.weights;
    const std::int64_t events = call.layout->n_events(), batch = call.layout->batch();
    const std::int64_t hidden = weights.hidden_size, state = weights.state_size;
    const std::int64_t gates = weights.gates * hidden;
    const std::int64_t width = weights.has_input_weights ? weights.input_size : gates;
    const bool lstm = weights.kind == CellKind::lstm;
    check_shape(function, "x", call.x, events, width);
    check_shape(function, "h_0", call.h_0, batch, state);
    check_shape(function, "c_0", call.c_0, batch, hidden);
    check_shape(function, "reset", call.reset, 1, events);
    check_shape(function, "y", call.y, events, state);
    check_shape(function, "saved", call.saved, events, saved_width<T>(weights.kind, hidden));
    check_shape(function, "dy", call.dy, events, state);
    check_shape(function, "dh_n", call.dh_n, batch, state);
    check_shape(function, "dc_n", call.dc_n, batch, hidden);
    check_shape(function, "dx", call.dx, events, width);
    check_shape(function, "dh_0", call.dh_0, batch, state);
    check_shape(function, "dc_0", call.dc_0, batch, hidden);
    check_shape(function, "dweight_ih", call.dweight_ih, gates, width);
    check_shape(function, "dweight_hh", call.dweight_hh, gates, state);
    check_shape(function, "dbias_ih", call.dbias_ih, 1, gates);
    check_shape(function, "dbias_hh", call.dbias_hh, 1, gates);
    check_shape(function, "dweight_hr", call.dweight_hr, state, hidden);
    check_required(function, "dc_n", call.dc_n, lstm, batch * hidden);
    check_shape(function, "attention", call.attention, 1, events);
    check_required(function, "attention", call.attention, has_attention(weights.kind), events);
    check_shape(function, "dattention", call.dattention, 1, events);
    check_required(function, "dattention", call.dattention, has_attention(weights.kind), events);
    check_noise(function, call.noise, batch);
    SEQREC_CHECK(weights.precision != Precision::int8, function,
                 ": precision is 'int8'; expected 'full' or 'bfloat16'");
    check_required(function, "dc_0", call.dc_0, lstm, batch * hidden);
    SEQREC_CHECK(!call.dweight_ih.present() || weights.has_input_weights, function,
                 ": dweight_ih needs weight_ih");
    SEQREC_CHECK(!call.dweight_hr.present() || weights.has_projection(), function,
                 ": dweight_hr needs weight_hr");
}

}  // namespace

template <class T>
void rnn_backward(const char* function, const RnnBackward<T>& call) {
    check_backward(function, call);
    expect_fresh(call.dx);
    const PackedRnnGrad<T>& weights = *call.weights;
    AlignedBuffer<T> zeros(static_cast<std::size_t>(weights.state_size));
    zeros.fill_zero();
    const std::vector<const T*> h_before = states_before(call, zeros.data());
    GateGradients<T> gradients(call);
    const RnnBackwardArgs<T> args{call.weights,
                                  call.layout,
                                  h_before.data(),
                                  call.c_0.data,
                                  call.reset.data,
                                  call.reverse,
                                  call.y.data,
                                  call.saved.data,
                                  call.dy.data,
                                  call.dh_n.data,
                                  call.dc_n.data,
                                  weights.has_input_weights ? call.dx.data : nullptr,
                                  gradients.dx_gates,
                                  gradients.dh_gates_n.data(),
                                  gradients.rh_before.data(),
                                  gradients.dprojected.data(),
                                  gradients.unprojected.data(),
                                  call.dh_0.data,
                                  call.dc_0.data,
                                  call.noise,
                                  call.attention.data,
                                  call.dattention.data};
    switch (weights.kind) {
        case CellKind::gru:
        case CellKind::gru_reset_before: gru_backward_cpu(args); break;
        case CellKind::augru_paper:
        case CellKind::augru_tf:
        case CellKind::agru: augru_backward_cpu(args); break;
        case CellKind::lstm: lstm_backward_cpu(args); break;
        case CellKind::rnn_tanh:
        case CellKind::rnn_relu: rnn_backward_cpu(args); break;
    }
    weight_gradients(call, gradients, h_before);
}

Precision backward_precision(Precision forward) {
    const bool emulated = forward == Precision::bfloat16 &&
                          &active_dot_backend(DotType::bfloat16) == &kDotBf16Highway;
    return emulated ? Precision::full : forward;
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
template void rnn_backward(const char*, const RnnBackward<float>&);
template void rnn_backward(const char*, const RnnBackward<double>&);

}  // namespace seqrec_fast
