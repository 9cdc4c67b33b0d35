// What ops on segments ask of their arguments, on every device.
#include "ops/argument_checks.h"
#include "ops/route_segments.h"
#include "ops/segment.h"

namespace seqrec_fast {

template <class Time>
SegmentCutArgs<Time> checked_session_segments(const char* function,
                                              const SessionSegments<Time>& call) {
    SEQREC_CHECK(call.rule != SegmentRule::window || call.window >= 1, function, ": window is ",
                 call.window, "; expected at least 1");
    SEQREC_CHECK(call.rule != SegmentRule::gap || call.gap >= 0, function, ": gap is ", call.gap,
                 "; expected 0 or more");
    SEQREC_CHECK(call.rule != SegmentRule::top_gaps || call.count >= 1, function, ": count is ",
                 call.count, "; expected at least 1");
    check_offsets_shape(function, "offsets", call.offsets);
    if (call.rule != SegmentRule::window) {
        check_required(function, "times", call.times, 1, call.times.columns);
    }
    return {call.rule, call.offsets.data, call.offsets.columns - 1, call.times.data, call.window,
            call.gap,  call.count};
}

template <class T>
SegmentSumArgs<T> checked_segment_sum(const char* function, const SegmentSum<T>& call) {
    const std::int64_t dim = call.values.columns;
    check_required(function, "values", call.values, call.values.rows, dim);
    check_offsets_shape(function, "segment_offsets", call.offsets);
    const std::int64_t segments = call.offsets.columns - 1;
    check_required(function, "output", call.out, segments, dim);
    return {call.values.data, call.offsets.data, segments, dim, call.mean, call.out.data};
}

template <class T>
ExpandSegmentsArgs<T> checked_expand_segments(const char* function, const ExpandSegments<T>& call) {
    const std::int64_t dim = call.rows.columns;
    check_offsets_shape(function, "segment_offsets", call.offsets);
    const std::int64_t segments = call.offsets.columns - 1;
    check_required(function, "per_segment", call.rows, segments, dim);
    check_required(function, "output", call.out, call.out.rows, dim);
    return {call.rows.data, call.offsets.data, segments, dim, call.mean, call.out.data};
}

template <class T>
RouteSegmentsArgs<T> checked_route_segments(const char* function, const RouteSegments<T>& call) {
    const std::int64_t dim = call.values.columns, experts = call.prototypes.rows;
    check_required(function, "values", call.values, call.values.rows, dim);
    check_offsets_shape(function, "segment_offsets", call.offsets);
    const std::int64_t segments = call.offsets.columns - 1;
    check_required(function, "prototypes", call.prototypes, experts, dim);
    check_required(function, "means", call.means, segments, dim);
    check_required(function, "logits", call.logits, segments, experts);
    GateCall<T> gate = call.gate;
    gate.logits = {call.logits.data, segments, experts, call.logits.row_stride};
    const GateInputs<T> inputs = gate_inputs(gate);
    check_required(function, "weights", call.weights, segments, inputs.k);
    check_required(function, "ids", call.ids, segments, inputs.k);
    return {call.values.data, call.offsets.data, call.prototypes.data, dim,          inputs,
            call.means.data,  call.logits.data,  call.weights.data,    call.ids.data};
}

#define SEQREC_INSTANTIATE(T) \
    template ExpandSegmentsArgs<T> checked_expand_segments(const char*, const ExpandSegments<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
SEQREC_INSTANTIATE(std::int64_t);
#undef SEQREC_INSTANTIATE
template SegmentCutArgs<double> checked_session_segments(const char*,
                                                         const SessionSegments<double>&);
template SegmentCutArgs<std::int64_t> checked_session_segments(
    const char*, const SessionSegments<std::int64_t>&);
template SegmentSumArgs<float> checked_segment_sum(const char*, const SegmentSum<float>&);
template SegmentSumArgs<double> checked_segment_sum(const char*, const SegmentSum<double>&);

template RouteSegmentsArgs<float> checked_route_segments(const char*, const RouteSegments<float>&);
template RouteSegmentsArgs<double> checked_route_segments(const char*,
                                                          const RouteSegments<double>&);

}  // namespace seqrec_fast
