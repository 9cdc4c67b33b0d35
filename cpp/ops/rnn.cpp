#include "ops/rnn.h"

#include "cpu/rnn_kernels.h"

namespace seqrec_fast {
namespace {

template <class T>
void check_required(const char* function, const char* argument, const MatrixView<T>& view,
                    bool required) {
    SEQREC_CHECK(view.present() == required || (required && view.rows * view.columns == 0),
                 function, ": ", argument, required ? " is missing" : " does not belong here");
}

template <class T>
void check_output_rows(const char* function, const MatrixView<T>& y, std::int64_t rows,
                       std::int64_t columns) {
    SEQREC_CHECK(!y.present() || (y.rows == rows && y.columns == columns), function,
                 ": y has shape (", y.rows, ", ", y.columns, "); expected (", rows, ", ", columns,
                 ")");
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
std::int64_t saved_width(CellKind kind, std::int64_t hidden_size) {
    return saved_count(kind) * padded_to_vectors<T>(hidden_size);
}

template <class T>
void rnn_forward(const char* function, const RnnForward<T>& call) {
    const PackedRnn<T>& weights = *call.weights;
    const std::int64_t events = call.layout->n_events(), batch = call.layout->batch();
    const bool lstm = weights.kind == CellKind::lstm;
    const std::int64_t width =
        weights.has_input_weights() ? weights.input_size : weights.gates * weights.hidden_size;
    check_shape(function, "x", call.x, events, width);
    check_shape(function, "h_0", call.h_0, batch, weights.state_size);
    check_shape(function, "c_0", call.c_0, batch, weights.hidden_size);
    check_shape(function, "reset", call.reset, 1, events);
    check_output_rows(function, call.y, events, weights.state_size);
    check_shape(function, "h_n", call.h_n, batch, weights.state_size);
    check_shape(function, "c_n", call.c_n, batch, weights.hidden_size);
    check_shape(function, "saved", call.saved, events,
                saved_width<T>(weights.kind, weights.hidden_size));
    check_required(function, "c_n", call.c_n, lstm);
    SEQREC_CHECK(lstm || !call.c_0.present(), function, ": c_0 belongs to an LSTM only");
    const RnnForwardArgs<T> args{call.weights,  call.layout,   call.x.data,
                                 call.h_0.data, call.c_0.data, call.reset.data,
                                 call.reverse,  call.y.data,   call.y.row_stride,
                                 call.h_n.data, call.c_n.data, call.saved.data};
    switch (weights.kind) {
        case CellKind::gru:
        case CellKind::gru_reset_before: return gru_forward_cpu(args);
        case CellKind::lstm: return lstm_forward_cpu(args);
        case CellKind::rnn_tanh:
        case CellKind::rnn_relu: return rnn_forward_cpu(args);
    }
}

template <class T>
void rnn_backward(const char* function, const RnnBackward<T>& call) {
    const PackedRnnGrad<T>& weights = *call.weights;
    const std::int64_t events = call.layout->n_events(), batch = call.layout->batch();
    const std::int64_t hidden = weights.hidden_size, state = weights.state_size;
    const bool lstm = weights.kind == CellKind::lstm;
    check_shape(function, "h_0", call.h_0, batch, state);
    check_shape(function, "c_0", call.c_0, batch, hidden);
    check_shape(function, "reset", call.reset, 1, events);
    check_shape(function, "y", call.y, events, state);
    check_shape(function, "saved", call.saved, events, saved_width<T>(weights.kind, hidden));
    check_shape(function, "dy", call.dy, events, state);
    check_shape(function, "dh_n", call.dh_n, batch, state);
    check_shape(function, "dc_n", call.dc_n, batch, hidden);
    SEQREC_CHECK(!call.dx.present() || weights.has_input_weights(), function,
                 ": dx needs weight_ih");
    check_shape(function, "dx", call.dx, events, weights.input_size);
    check_shape(function, "dx_gates", call.dx_gates, events, weights.gates * hidden);
    check_shape(function, "dh_gates_n", call.dh_gates_n, events, hidden);
    check_shape(function, "h_before", call.h_before, events, state);
    check_shape(function, "rh_before", call.rh_before, events, hidden);
    check_shape(function, "dprojected", call.dprojected, events, state);
    check_shape(function, "unprojected", call.unprojected, events, hidden);
    check_shape(function, "dh_0", call.dh_0, batch, state);
    check_shape(function, "dc_0", call.dc_0, batch, hidden);
    check_required(function, "dc_n", call.dc_n, lstm);
    check_required(function, "dc_0", call.dc_0, lstm);
    check_required(function, "dh_gates_n", call.dh_gates_n, weights.kind == CellKind::gru);
    check_required(function, "rh_before", call.rh_before,
                   weights.kind == CellKind::gru_reset_before);
    check_required(function, "dprojected", call.dprojected, weights.has_projection());
    check_required(function, "unprojected", call.unprojected, weights.has_projection());
    const RnnBackwardArgs<T> args{
        call.weights,         call.layout,           call.h_0.data,      call.c_0.data,
        call.reset.data,      call.reverse,          call.y.data,        call.saved.data,
        call.dy.data,         call.dh_n.data,        call.dc_n.data,     call.dx.data,
        call.dx_gates.data,   call.dh_gates_n.data,  call.h_before.data, call.rh_before.data,
        call.dprojected.data, call.unprojected.data, call.dh_0.data,     call.dc_0.data};
    switch (weights.kind) {
        case CellKind::gru:
        case CellKind::gru_reset_before: return gru_backward_cpu(args);
        case CellKind::lstm: return lstm_backward_cpu(args);
        case CellKind::rnn_tanh:
        case CellKind::rnn_relu: return rnn_backward_cpu(args);
    }
}

template RnnWeights<float> checked_weights(const char*, const RnnParameters<float>&);
template RnnWeights<double> checked_weights(const char*, const RnnParameters<double>&);
template std::int64_t saved_width<float>(CellKind, std::int64_t);
template std::int64_t saved_width<double>(CellKind, std::int64_t);
template void rnn_forward(const char*, const RnnForward<float>&);
template void rnn_forward(const char*, const RnnForward<double>&);
template void rnn_backward(const char*, const RnnBackward<float>&);
template void rnn_backward(const char*, const RnnBackward<double>&);

}  // namespace seqrec_fast
