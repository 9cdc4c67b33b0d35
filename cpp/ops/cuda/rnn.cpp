#include "ops/cuda/rnn.h"

#include "base/check.h"

namespace seqrec_fast {
namespace {

// There if the cell has it, and absent if not.
template <class T>
void check_of_cell(const char* function, const char* argument, const MatrixView<T>& view,
                   bool wanted, std::int64_t rows, std::int64_t columns) {
    if (wanted) {
        check_required(function, argument, view, rows, columns);
    } else {
        SEQREC_CHECK(!view.present(), function, ": ", argument, " does not belong here");
    }
}

void check_rates(const char* function, double recurrent_dropout, double zoneout) {
    SEQREC_CHECK(recurrent_dropout >= 0 && recurrent_dropout < 1, function,
                 ": recurrent_dropout is ", recurrent_dropout, "; expected 0 <= p < 1");
    SEQREC_CHECK(zoneout >= 0 && zoneout < 1, function, ": zoneout is ", zoneout,
                 "; expected 0 <= p < 1");
}

// What both passes have.
struct Sizes {
    const char* function;
    CellKind kind;
    std::int64_t events, batch, hidden, gates, experts;
    bool by_steps;

    bool lstm() const { return kind == CellKind::lstm; }

    template <class T>
    void check_common(const MatrixView<const T>& h_0, const MatrixView<const T>& c_0,
                      const MatrixView<const std::uint8_t>& reset,
                      const MatrixView<const T>& attention) const {
        check_shape(function, "h_0", h_0, batch, hidden);
        SEQREC_CHECK(lstm() || !c_0.present(), function, ": c_0 belongs to an LSTM only");
        check_shape(function, "c_0", c_0, batch, hidden);
        check_shape(function, "reset", reset, 1, events);
        check_of_cell(function, "attention", attention, has_attention(kind), 1, events);
    }
    template <class T>
    RecurrentWeights<T> checked_weights(const RecurrentMatrix<T>& matrix, bool transposed) const {
        const std::int64_t all = gates * hidden;
        if (by_steps) {
            SEQREC_CHECK(!matrix.full.present() && !matrix.packed.present(), function,
                         ": weight_hh is given; expected none with a part of a step");
            return {};
        }
        SEQREC_CHECK(matrix.full.present() != matrix.packed.present(), function,
                     ": weight_hh and packed are ",
                     matrix.full.present() ? "both given" : "missing", "; expected one of them");
        SEQREC_CHECK(sizeof(T) <= 4 || !matrix.packed.present(), function,
                     ": packed is given; expected weight_hh for float64");
        SEQREC_CHECK(sizeof(T) >= 4 || matrix.packed.present(), function,
                     ": weight_hh is given; expected packed for 16-bit arrays");
        check_shape(function, "weight_hh", matrix.full, experts * (transposed ? hidden : all),
                    transposed ? all : hidden);
        check_shape(function, "packed", matrix.packed, 1, experts * packed_size(hidden, gates));
        return {matrix.full.data, matrix.packed.data,
                matrix.packed.present() ? packed_size(hidden, gates) : all * hidden};
    }
    template <class T>
    LoopNoise<typename LoopTypes<T>::Sum> checked_noise(const DeviceNoise& noise) const {
        using Sum = typename LoopTypes<T>::Sum;
        check_rates(function, noise.recurrent_dropout, noise.zoneout);
        check_shape(function, "noise", noise.bits, events, hidden);
        return {noise.bits.data, static_cast<Sum>(1 / (1 - noise.recurrent_dropout)),
                static_cast<Sum>(noise.zoneout)};
    }
    // `left_gates`, `sum_gates`: columns, in multiples of H, of the two sides of a product.
    template <class T>
    OneStep<T> checked_step(const StepCall<T>& call, bool ends, std::int64_t left_gates,
                            std::int64_t sum_gates) const {
        if (!by_steps) {
            return {};
        }
        const std::int64_t sessions = batch / experts;
        const bool two_parts = kind == CellKind::gru_reset_before;
        SEQREC_CHECK(call.part != StepPart::end || ends, function, ": there is no end of it");
        SEQREC_CHECK(call.part != StepPart::second || two_parts, function,
                     ": a step has one part; expected two, of gru_reset_before");
        SEQREC_CHECK(call.index >= -1 && call.index <= events, function, ": step ", call.index,
                     "; expected -1 to ", events);
        for (const std::int64_t rows : {call.rows, call.sum_rows}) {
            SEQREC_CHECK(rows >= 0 && rows <= sessions, function, ": ", rows,
                         " rows; expected up to ", sessions);
        }
        SEQREC_CHECK(call.left.present() != call.left_packed.present(), function,
                     ": expected one of left and left_packed");
        SEQREC_CHECK(sizeof(T) == 4 || call.left.present() == (sizeof(T) == 8), function,
                     ": left is not of the type of its arrays");
        check_shape(function, "left", call.left, batch, left_gates * hidden);
        check_shape(function, "left_packed", call.left_packed, batch, left_gates * hidden);
        check_shape(function, "sums", call.sums, experts * call.sum_rows, sum_gates * hidden);
        SEQREC_CHECK(call.sums.present() || call.sum_rows == 0, function, ": sums is missing");
        check_required(function, "h", call.h, batch, hidden);
        check_of_cell(function, "other", call.other, lstm() || two_parts, batch, hidden);
        return {call.part,
                call.index,
                call.rows,
                call.sum_rows,
                call.sums.data,
                call.left.data,
                call.left_packed.data,
                call.h.data,
                call.other.data};
    }
    template <class T>
    void check_saved(const MatrixView<T>& saved) const {
        check_shape(function, "saved", saved, events, saved_count(kind) * hidden);
    }
};

DeviceLayout layout_of(const char* function, const DeviceSequences& sequences,
                       std::int64_t events) {
    const std::int64_t batch = sequences.batch, seq_len = sequences.seq_len;
    SEQREC_CHECK(batch >= 0 && seq_len >= 0, function, ": ", batch, " sessions of ", seq_len,
                 " events; expected no negative number");
    const bool ragged = sequences.first.present(), packed = sequences.step.present();
    const std::int64_t experts = sequences.experts;
    SEQREC_CHECK(experts >= 1 && batch % experts == 0, function, ": ", batch, " sessions of ",
                 experts, " experts; expected the same number for each of them");
    SEQREC_CHECK(experts == 1 || ragged, function, ": sessions of experts are not ragged");
    SEQREC_CHECK(!(ragged && packed), function, ": first and step are given; expected one of them");
    SEQREC_CHECK((ragged || packed) == sequences.length.present(), function,
                 ": length belongs to ragged and packed sessions");
    SEQREC_CHECK(ragged || packed || batch * seq_len == events, function, ": ", events,
                 " events; expected ", batch * seq_len, ", those of ", batch, " sessions of ",
                 seq_len);
    check_shape(function, "first", sequences.first, 1, batch);
    check_shape(function, "length", sequences.length, 1, batch);
    check_shape(function, "order", sequences.order, 1, batch);
    DeviceLayout layout{batch,   events,  seq_len, 1,       batch,
                        nullptr, nullptr, nullptr, nullptr, experts};
    if (ragged) {
        layout.step_stride = 1;
    } else if (sequences.batch_first) {
        layout.first_stride = seq_len;
        layout.step_stride = 1;
    }
    layout.first = sequences.first.data;
    layout.step = sequences.step.data;
    layout.length = sequences.length.data;
    layout.order = sequences.order.data;
    return layout;
}

}  // namespace

std::int64_t packed_size(std::int64_t hidden, std::int64_t gates) {
    return gates * ((hidden + 15) / 16 * 16) * ((hidden + 31) / 32 * 32);
}

void rnn_noise(const NoiseDraw& call, cudaStream_t stream) {
    constexpr const char* kName = "rnn_noise";
    check_rates(kName, call.recurrent_dropout, call.zoneout);
    check_required(kName, "seed", call.seed, 1, 1);
    check_shape(kName, "sessions", call.sessions, 1, call.sequences.batch);
    SEQREC_CHECK(call.bits.present(), kName, ": bits is missing");
    rnn_noise_cuda(
        {call.bits.columns, layout_of(kName, call.sequences, call.bits.rows), call.seed.data,
         call.sessions.data, call.stream, call.recurrent_dropout, call.zoneout, call.bits.data},
        stream);
}

template <class T>
void rnn_forward(const RnnLoop<T>& call, cudaStream_t stream) {
    constexpr const char* kName = "rnn_forward";
    const std::int64_t hidden = call.h_n.columns, gates = gate_count(call.kind);
    const std::int64_t events = call.x_gates.rows, batch = call.sequences.batch;
    const std::int64_t experts = call.sequences.experts;
    const Sizes sizes{kName,  call.kind, events,  batch,
                      hidden, gates,     experts, call.step.h.present()};
    SEQREC_CHECK(hidden > 0, kName, ": h_n has no columns; expected hidden_size");
    const RecurrentWeights<T> weights = sizes.checked_weights(call.weight_hh, true);
    check_required(kName, "x_gates", call.x_gates, events, gates * hidden);
    check_shape(kName, "bias_hh", call.bias_hh, experts, gates * hidden);
    sizes.check_common(call.h_0, call.c_0, call.reset, call.attention);
    check_required(kName, "y", call.y, events, hidden);
    check_required(kName, "h_n", call.h_n, batch, hidden);
    check_of_cell(kName, "c_n", call.c_n, sizes.lstm(), batch, hidden);
    sizes.check_saved(call.saved);
    // Of gru_reset_before those of r and z come first, then that of the candidate.
    const std::int64_t forward_sums = call.kind != CellKind::gru_reset_before ? gates
                                      : call.step.part == StepPart::second    ? 1
                                                                              : 2;
    const RnnLoopArgs<T> args{call.kind,
                              hidden,
                              layout_of(kName, call.sequences, events),
                              weights,
                              call.x_gates.data,
                              call.bias_hh.data,
                              call.h_0.data,
                              call.c_0.data,
                              call.reset.data,
                              call.attention.data,
                              sizes.checked_noise<T>(call.noise),
                              call.reverse,
                              call.y.data,
                              call.h_n.data,
                              call.c_n.data,
                              call.saved.data,
                              sizes.checked_step(call.step, false, 1, forward_sums)};
    switch (call.kind) {
        case CellKind::gru:
        case CellKind::gru_reset_before: return gru_forward_cuda(args, stream);
        case CellKind::augru_paper:
        case CellKind::augru_tf:
        case CellKind::agru: return augru_forward_cuda(args, stream);
        case CellKind::lstm: return lstm_forward_cuda(args, stream);
        case CellKind::rnn_tanh:
        case CellKind::rnn_relu: return rnn_forward_cuda(args, stream);
    }
}

template <class T>
void rnn_backward(const RnnLoopGrad<T>& call, cudaStream_t stream) {
    constexpr const char* kName = "rnn_backward";
    const std::int64_t hidden = call.y.columns, gates = gate_count(call.kind);
    const std::int64_t events = call.y.rows, batch = call.sequences.batch;
    const std::int64_t experts = call.sequences.experts;
    const Sizes sizes{kName,  call.kind, events,  batch,
                      hidden, gates,     experts, call.step.h.present()};
    SEQREC_CHECK(hidden > 0, kName, ": y has no columns; expected hidden_size");
    const RecurrentWeights<T> weights = sizes.checked_weights(call.weight_hh, false);
    sizes.check_common(call.h_0, call.c_0, call.reset, call.attention);
    check_required(kName, "y", call.y, events, hidden);
    sizes.check_saved(call.saved);
    SEQREC_CHECK(saved_count(call.kind) == 0 || call.saved.present(), kName, ": saved is missing");
    check_required(kName, "dy", call.dy, events, hidden);
    check_required(kName, "dh_n", call.dh_n, batch, hidden);
    check_of_cell(kName, "dc_n", call.dc_n, sizes.lstm(), batch, hidden);
    check_required(kName, "dgates", call.dgates, events, slot_count(call.kind) * hidden);
    check_required(kName, "h_before", call.h_before, events, hidden);
    check_of_cell(kName, "rh_before", call.rh_before, call.kind == CellKind::gru_reset_before,
                  events, hidden);
    check_required(kName, "dh_0", call.dh_0, batch, hidden);
    check_of_cell(kName, "dc_0", call.dc_0, sizes.lstm(), batch, hidden);
    check_of_cell(kName, "dattention", call.dattention, has_attention(call.kind), 1, events);
    const RnnLoopGradArgs<T> args{call.kind,
                                  hidden,
                                  layout_of(kName, call.sequences, events),
                                  weights,
                                  call.h_0.data,
                                  call.c_0.data,
                                  call.reset.data,
                                  call.attention.data,
                                  sizes.checked_noise<T>(call.noise),
                                  call.reverse,
                                  call.y.data,
                                  call.saved.data,
                                  call.dy.data,
                                  call.dh_n.data,
                                  call.dc_n.data,
                                  call.dgates.data,
                                  call.h_before.data,
                                  call.rh_before.data,
                                  call.dh_0.data,
                                  call.dc_0.data,
                                  call.dattention.data,
                                  sizes.checked_step(call.step, true, gates, 1)};
    switch (call.kind) {
        case CellKind::gru:
        case CellKind::gru_reset_before: return gru_backward_cuda(args, stream);
        case CellKind::augru_paper:
        case CellKind::augru_tf:
        case CellKind::agru: return augru_backward_cuda(args, stream);
        case CellKind::lstm: return lstm_backward_cuda(args, stream);
        case CellKind::rnn_tanh:
        case CellKind::rnn_relu: return rnn_backward_cuda(args, stream);
    }
}

template void rnn_forward(const RnnLoop<float>&, cudaStream_t);
template void rnn_forward(const RnnLoop<double>&, cudaStream_t);
template void rnn_forward(const RnnLoop<Bfloat16>&, cudaStream_t);
template void rnn_forward(const RnnLoop<Float16>&, cudaStream_t);
template void rnn_backward(const RnnLoopGrad<float>&, cudaStream_t);
template void rnn_backward(const RnnLoopGrad<double>&, cudaStream_t);
template void rnn_backward(const RnnLoopGrad<Bfloat16>&, cudaStream_t);
template void rnn_backward(const RnnLoopGrad<Float16>&, cudaStream_t);

}  // namespace seqrec_fast
