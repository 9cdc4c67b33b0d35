#include <algorithm>
#include <vector>

#include "base/parallel.h"
#include "cpu/rnn_kernels.h"
#include "ops/rnn.h"
#include "ops/rnn_checks.h"

namespace seqrec_fast {
namespace {

// A matrix between the reverse loop and the sums over events: a row per event.
template <class T>
struct EventRows {
    std::int64_t stride = 0;
    AlignedBuffer<T> rows;

    EventRows(std::int64_t n, std::int64_t stride_of_rows, bool wanted = true)
        : stride(stride_of_rows) {
        if (wanted) {
            rows = AlignedBuffer<T>(static_cast<std::size_t>(n * stride));
        }
    }
    T* from(std::int64_t row) { return rows.size() == 0 ? nullptr : rows.data() + row * stride; }
    // Moves the rows [first, last) to the front.
    void keep(std::int64_t first, std::int64_t last) {
        if (first > 0 && rows.size() > 0) {
            std::copy(from(first), from(last), rows.data());
        }
    }
};

// The matrices of a call, each empty unless the cell has it.
template <class T>
struct GateGradients {
    EventRows<T> dgates;       // slot_count * H columns: of the sums of every gate
    EventRows<T> rh_before;    // H, gru_reset_before: r * h_before
    EventRows<T> dprojected;   // S, LSTM with projection: to h after it
    EventRows<T> unprojected;  // H, LSTM with projection: o * tanh(c)

    GateGradients(const PackedRnnGrad<T>& weights, std::int64_t n)
        // An odd number of cache lines, so that a column does not fall on few cache sets.
        : dgates(n, (blocks_of<T>(slot_count(weights.kind) * weights.hidden_size) | 1) *
                        kPackedLanes<T>),
          rh_before(n, weights.hidden_size, weights.kind == CellKind::gru_reset_before),
          dprojected(n, weights.state_size, weights.has_projection()),
          unprojected(n, weights.hidden_size, weights.has_projection()) {}

    void keep(std::int64_t first, std::int64_t last) {
        for (EventRows<T>* matrix : {&dgates, &rh_before, &dprojected, &unprojected}) {
            matrix->keep(first, last);
        }
    }
};

// How the events of a call are cut, so that the matrices above stay in the threads' L2: with all of
// a long sequence, fresh pages for them took a third of the time.
struct RangeCut {
    std::int64_t most_events;
    std::int64_t summed_by;  // events are summed in multiples of it, the others with the next range
};

template <class T>
RangeCut range_cut(const PackedRnnGrad<T>& weights) {
    const std::int64_t values =
        num_threads() * (std::int64_t{1} << 20) / static_cast<std::int64_t>(sizeof(T));
    return {values / (slot_count(weights.kind) * weights.hidden_size),
            weight_grad_events(weights.precision)};
}

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
// where dx_gates are the first G slots of dgates and dh_gates those from the first recurrent slot
// on. A reset-before GRU has rh_before in place of h_before for its last gate.
// LSTM with projection: dW_hr = dprojected' unprojected.
// These are the sums over the first `n` events that gradients has; `add` to those over others.
template <class T>
void weight_gradients(const RnnBackward<T>& call, GateGradients<T>& gradients,
                      const std::vector<std::int64_t>& events, std::int64_t n,
                      const std::vector<const T*>& h_before, bool add) {
    const PackedRnnGrad<T>& weights = *call.weights;
    const CellKind kind = weights.kind;
    const std::int64_t hidden = weights.hidden_size;
    const std::int64_t state = weights.state_size, all = weights.gates * hidden;
    const auto sum = [&](const T* gates, std::int64_t n_gates, std::int64_t rotation,
                         const std::vector<const T*>& rows, std::int64_t width, T* weight,
                         T* bias) {
        rnn_weight_grad_cpu<T>({gates, gradients.dgates.stride, n_gates, rotation, n, rows.data(),
                                width, weight, bias, weights.precision, add});
    };

    const auto rows_of = [&](const auto& row_of_event) {
        std::vector<const T*> rows(static_cast<std::size_t>(n));
        std::transform(events.begin(), events.begin() + n, rows.begin(), row_of_event);
        return rows;
    };
    T* const dgates = gradients.dgates.from(0);
    if (call.dweight_ih.present() || call.dbias_ih.present()) {
        const std::int64_t width = call.dweight_ih.present() ? call.x.columns : 0;
        const auto x = rows_of([&](std::int64_t event) { return call.x.data + event * width; });
        sum(dgates, all, gate_slot(kind, 0) * hidden, x, width, call.dweight_ih.data,
            call.dbias_ih.data);
    }
    if (call.dweight_hh.present() || call.dbias_hh.present()) {
        const auto before =
            rows_of([&](std::int64_t event) { return h_before[static_cast<std::size_t>(event)]; });
        const bool reset_before = kind == CellKind::gru_reset_before;
        const std::int64_t plain = reset_before ? 2 * hidden : all;
        // Without a slot of its own for the state's part of a gate, both biases get the same.
        const bool one_bias =
            first_recurrent_slot(kind) == 0 && call.dbias_ih.present() && call.dbias_hh.present();
        T* const weight = call.dweight_hh.data;
        T* const bias = one_bias ? nullptr : call.dbias_hh.data;
        sum(dgates + first_recurrent_slot(kind) * hidden, plain, 0, before, state, weight, bias);
        if (reset_before) {
            const auto rh = row_pointers<T>(gradients.rh_before.from(0), n, hidden);
            sum(dgates + plain, hidden, 0, rh, hidden,
                weight == nullptr ? nullptr : weight + plain * state,
                bias == nullptr ? nullptr : bias + plain);
        }
        if (one_bias) {
            std::copy_n(call.dbias_ih.data, all, call.dbias_hh.data);
        }
    }
    if (call.dweight_hr.present()) {
        const auto rows = row_pointers<T>(gradients.unprojected.from(0), n, hidden);
        rnn_weight_grad_cpu<T>({gradients.dprojected.from(0), state, state, 0, n, rows.data(),
                                hidden, call.dweight_hr.data, nullptr, weights.precision, add});
    }
}

template <class T>
void reverse_loop(const RnnBackwardArgs<T>& args) {
    switch (args.weights->kind) {
        case CellKind::gru:
        case CellKind::gru_reset_before: gru_backward_cpu(args); break;
        case CellKind::augru_paper:
        case CellKind::augru_tf:
        case CellKind::agru: augru_backward_cpu(args); break;
        case CellKind::lstm: lstm_backward_cpu(args); break;
        case CellKind::rnn_tanh:
        case CellKind::rnn_relu: rnn_backward_cpu(args); break;
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
    check_present(function, "dc_n", call.dc_n, lstm, batch * hidden);
    check_shape(function, "attention", call.attention, 1, events);
    check_present(function, "attention", call.attention, has_attention(weights.kind), events);
    check_shape(function, "dattention", call.dattention, 1, events);
    check_present(function, "dattention", call.dattention, has_attention(weights.kind), events);
    check_noise(function, call.noise, batch);
    SEQREC_CHECK(weights.precision != Precision::int8, function,
                 ": precision is 'int8'; expected 'full' or 'bfloat16'");
    check_present(function, "dc_0", call.dc_0, lstm, batch * hidden);
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
    const RangeCut cut = range_cut(weights);
    const std::vector<StepRange> ranges = step_ranges(*call.layout, cut.most_events);
    std::int64_t most = 0;
    for (const StepRange& range : ranges) {
        most = std::max(most, range.events);
    }
    GateGradients<T> gradients(weights, most + cut.summed_by - 1);
    const bool carries = ranges.size() > 1, lstm = weights.kind == CellKind::lstm;
    const auto carried = [&](std::int64_t columns, bool wanted) {
        return wanted ? AlignedBuffer<T>(static_cast<std::size_t>(call.layout->batch() * columns))
                      : AlignedBuffer<T>();
    };
    AlignedBuffer<T> dh = carried(weights.state_size, carries);
    AlignedBuffer<T> dc = carried(weights.hidden_size, carries && lstm);
    std::vector<std::int64_t> events, step_rows;  // events: those whose rows `gradients` has
    bool summed = false;
    for (const StepRange& range : ranges) {
        const auto kept = static_cast<std::int64_t>(events.size());
        append_events(*call.layout, call.reverse, range, events, step_rows);
        reverse_loop<T>({call.weights,
                         call.layout,
                         h_before.data(),
                         call.c_0.data,
                         call.reset.data,
                         call.reverse,
                         call.y.data,
                         call.saved.data,
                         call.dy.data,
                         &range,
                         step_rows.data(),
                         call.dh_n.data,
                         call.dc_n.data,
                         dh.data(),
                         dc.data(),
                         weights.has_input_weights ? call.dx.data : nullptr,
                         weights.has_input_weights ? nullptr : call.dx.data,
                         gradients.dgates.from(kept),
                         gradients.dgates.stride,
                         gradients.rh_before.from(kept),
                         gradients.dprojected.from(kept),
                         gradients.unprojected.from(kept),
                         call.dh_0.data,
                         call.dc_0.data,
                         call.noise,
                         call.attention.data,
                         call.dattention.data});
        const auto n = static_cast<std::int64_t>(events.size());
        const bool last = &range == &ranges.back();
        const std::int64_t sums = last ? n : n / cut.summed_by * cut.summed_by;
        if (sums > 0 || last) {
            weight_gradients(call, gradients, events, sums, h_before, summed);
            summed = true;
        }
        gradients.keep(sums, n);
        events.erase(events.begin(), events.begin() + sums);
    }
}

Precision backward_precision(Precision forward) {
    const bool emulated = forward == Precision::bfloat16 &&
                          &active_dot_backend(DotType::bfloat16) == &kDotBf16Highway;
    return emulated ? Precision::full : forward;
}

template void rnn_backward(const char*, const RnnBackward<float>&);
template void rnn_backward(const char*, const RnnBackward<double>&);

}  // namespace seqrec_fast
