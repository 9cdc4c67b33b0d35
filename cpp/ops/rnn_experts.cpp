#include "ops/rnn_experts.h"

#include <functional>
#include <vector>

#include "base/parallel.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {
namespace {

template <class V>
MatrixView<V> rows_of(const MatrixView<V>& view, std::int64_t first, std::int64_t rows) {
    return view.present() ? MatrixView<V>{view.data + first * view.row_stride, rows, view.columns,
                                          view.row_stride}
                          : view;
}

// What belongs to one expert.
class ExpertSlice {
  public:
    ExpertSlice(const MatrixView<const std::int64_t>& offsets, std::int64_t count,
                std::int64_t expert, const char* function)
        : count_(count),
          expert_(expert),
          batch_((offsets.columns - 1) / count),
          first_event_(offsets.data[expert * batch_]),
          events_(offsets.data[(expert + 1) * batch_] - first_event_) {
        std::vector<std::int64_t> own(offsets.data + expert * batch_,
                                      offsets.data + (expert + 1) * batch_ + 1);
        for (std::int64_t& offset : own) {
            offset -= first_event_;
        }
        layout_.assign_ragged(own.data(), batch_, events_, function);
    }

    const SequenceLayout& layout() const { return layout_; }
    template <class V>
    MatrixView<V> events(const MatrixView<V>& view) const {
        return rows_of(view, first_event_, events_);
    }
    template <class V>
    MatrixView<V> event_vector(const MatrixView<V>& view) const {
        return view.present() ? MatrixView<V>{view.data + first_event_, 1, events_, events_} : view;
    }
    template <class V>
    MatrixView<V> sessions(const MatrixView<V>& view) const {
        return rows_of(view, expert_ * batch_, batch_);
    }
    template <class V>
    MatrixView<V> weights(const MatrixView<V>& view) const {
        const std::int64_t rows = view.rows / count_;
        return rows_of(view, expert_ * rows, rows);
    }
    template <class T>
    RnnWeights<T> weights(const char* function, const RnnParameters<T>& all) const {
        return checked_weights<T>(
            function, {all.kind, weights(all.weight_ih), weights(all.weight_hh),
                       weights(all.bias_ih), weights(all.bias_hh), weights(all.weight_hr)});
    }

  private:
    std::int64_t count_, expert_, batch_, first_event_, events_;
    SequenceLayout layout_;
};

template <class V>
void check_rows(const char* function, const char* argument, const MatrixView<V>& view,
                std::int64_t rows) {
    SEQREC_CHECK(!view.present() || view.rows == rows, function, ": ", argument, " has ", view.rows,
                 " rows; expected ", rows);
}

// So that the slices lie inside their matrices; rnn_forward and rnn_backward check the rest. `call`
// is either of theirs.
template <class T, class Call>
void check_experts(const char* function, const RnnExperts<T>& experts, const Call& call,
                   std::int64_t events) {
    const std::int64_t count = experts.count;
    SEQREC_CHECK(count > 0, function, ": there are ", count, " experts; expected at least 1");
    SEQREC_CHECK(experts.offsets.rows == 1 && (experts.offsets.columns - 1) % count == 0 &&
                     experts.offsets.columns > 0,
                 function, ": offsets have ", experts.offsets.columns,
                 " entries; expected one more than a multiple of the ", count, " experts");
    const std::int64_t sessions = experts.offsets.columns - 1;
    SequenceLayout::ragged(experts.offsets.data, sessions, events, function);
    const RnnParameters<T>& weights = experts.parameters;
    const std::int64_t gate_rows = weights.weight_hh.rows;
    SEQREC_CHECK(gate_rows % count == 0, function, ": weight_hh has ", gate_rows,
                 " rows; expected a multiple of the ", count, " experts");
    check_rows(function, "weight_ih", weights.weight_ih, gate_rows);
    check_rows(function, "bias_ih", weights.bias_ih, count);
    check_rows(function, "bias_hh", weights.bias_hh, count);
    SEQREC_CHECK(weights.weight_hr.rows % count == 0, function, ": weight_hr has ",
                 weights.weight_hr.rows, " rows; expected a multiple of the ", count, " experts");
    check_rows(function, "x", call.x, events);
    check_rows(function, "y", call.y, events);
    check_rows(function, "saved", call.saved, events);
    check_shape(function, "reset", call.reset, 1, events);
    check_shape(function, "attention", call.attention, 1, events);
    check_rows(function, "h_0", call.h_0, sessions);
    check_rows(function, "c_0", call.c_0, sessions);
}

template <class T>
void check_gradients(const char* function, const RnnExperts<T>& experts, const RnnBackward<T>& call,
                     std::int64_t events) {
    const std::int64_t sessions = experts.offsets.columns - 1;
    const std::int64_t gate_rows = experts.parameters.weight_hh.rows;
    check_rows(function, "dy", call.dy, events);
    check_rows(function, "dx", call.dx, events);
    check_shape(function, "dattention", call.dattention, 1, events);
    check_rows(function, "dh_n", call.dh_n, sessions);
    check_rows(function, "dc_n", call.dc_n, sessions);
    check_rows(function, "dh_0", call.dh_0, sessions);
    check_rows(function, "dc_0", call.dc_0, sessions);
    check_rows(function, "dweight_ih", call.dweight_ih, gate_rows);
    check_rows(function, "dweight_hh", call.dweight_hh, gate_rows);
    check_rows(function, "dbias_ih", call.dbias_ih, experts.count);
    check_rows(function, "dbias_hh", call.dbias_hh, experts.count);
    check_rows(function, "dweight_hr", call.dweight_hr, experts.parameters.weight_hr.rows);
}

// Experts beside each other where they are enough for all threads, else each with all threads.
void for_each_expert(std::int64_t count, const std::function<void(std::int64_t)>& run) {
    if (count >= num_threads()) {
        parallel_for(count, run);
        return;
    }
    for (std::int64_t expert = 0; expert < count; ++expert) {
        run(expert);
    }
}

}  // namespace

template <class T>
void rnn_experts_forward(const char* function, const RnnExperts<T>& experts,
                         const RnnForward<T>& call) {
    check_experts(function, experts, call, call.x.rows);
    const std::int64_t sessions = experts.offsets.columns - 1;
    check_rows(function, "h_n", call.h_n, sessions);
    check_rows(function, "c_n", call.c_n, sessions);
    expect_fresh(call.y);
    expect_fresh(call.saved);
    for_each_expert(experts.count, [&](std::int64_t expert) {
        const ExpertSlice slice(experts.offsets, experts.count, expert, function);
        PackedRnn<T> packed(slice.weights(function, experts.parameters), experts.precision);
        packed.float32_states = experts.float32_states;
        RnnForward<T> own = call;
        own.weights = &packed;
        own.layout = &slice.layout();
        own.x = slice.events(call.x);
        own.y = slice.events(call.y);
        own.saved = slice.events(call.saved);
        own.reset = slice.event_vector(call.reset);
        own.attention = slice.event_vector(call.attention);
        own.h_0 = slice.sessions(call.h_0);
        own.c_0 = slice.sessions(call.c_0);
        own.h_n = slice.sessions(call.h_n);
        own.c_n = slice.sessions(call.c_n);
        rnn_forward(function, own);
    });
}

template <class T>
void rnn_experts_backward(const char* function, const RnnExperts<T>& experts,
                          const RnnBackward<T>& call) {
    check_experts(function, experts, call, call.y.rows);
    check_gradients(function, experts, call, call.y.rows);
    expect_fresh(call.dx);
    for_each_expert(experts.count, [&](std::int64_t expert) {
        const ExpertSlice slice(experts.offsets, experts.count, expert, function);
        const PackedRnnGrad<T> packed(slice.weights(function, experts.parameters),
                                      call.dx.present(), experts.precision,
                                      call.dh_0.present() || slice.layout().longest() > 1);
        RnnBackward<T> own = call;
        own.weights = &packed;
        own.layout = &slice.layout();
        own.x = slice.events(call.x);
        own.y = slice.events(call.y);
        own.saved = slice.events(call.saved);
        own.dy = slice.events(call.dy);
        own.dx = slice.events(call.dx);
        own.reset = slice.event_vector(call.reset);
        own.attention = slice.event_vector(call.attention);
        own.dattention = slice.event_vector(call.dattention);
        own.h_0 = slice.sessions(call.h_0);
        own.c_0 = slice.sessions(call.c_0);
        own.dh_n = slice.sessions(call.dh_n);
        own.dc_n = slice.sessions(call.dc_n);
        own.dh_0 = slice.sessions(call.dh_0);
        own.dc_0 = slice.sessions(call.dc_0);
        own.dweight_ih = slice.weights(call.dweight_ih);
        own.dweight_hh = slice.weights(call.dweight_hh);
        own.dbias_ih = slice.weights(call.dbias_ih);
        own.dbias_hh = slice.weights(call.dbias_hh);
        own.dweight_hr = slice.weights(call.dweight_hr);
        rnn_backward(function, own);
    });
}

template void rnn_experts_forward(const char*, const RnnExperts<float>&, const RnnForward<float>&);
template void rnn_experts_forward(const char*, const RnnExperts<double>&,
                                  const RnnForward<double>&);
template void rnn_experts_backward(const char*, const RnnExperts<float>&,
                                   const RnnBackward<float>&);
template void rnn_experts_backward(const char*, const RnnExperts<double>&,
                                   const RnnBackward<double>&);

}  // namespace seqrec_fast
