#include "ops/route_segments.h"

#include "cpu/route_segments.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {

template <class T>
void route_segments(const char* function, const RouteSegments<T>& call) {
    const std::int64_t segments = call.offsets.columns - 1, dim = call.values.columns;
    const std::int64_t experts = call.prototypes.rows;
    check_required(function, "values", call.values, call.values.rows, dim);
    check_offsets(function, "segment_offsets", call.offsets, call.values.rows, "values");
    check_required(function, "prototypes", call.prototypes, experts, dim);
    check_required(function, "means", call.means, segments, dim);
    check_required(function, "logits", call.logits, segments, experts);
    GateCall<T> gate = call.gate;
    gate.logits = {call.logits.data, segments, experts, call.logits.row_stride};
    const GateInputs<T> inputs = gate_inputs(gate);
    check_required(function, "weights", call.weights, segments, inputs.k);
    check_required(function, "ids", call.ids, segments, inputs.k);
    route_segments_cpu<T>({call.values.data, call.offsets.data, call.prototypes.data, dim, inputs,
                           call.means.data, call.logits.data, call.weights.data, call.ids.data});
}

template void route_segments(const char*, const RouteSegments<float>&);
template void route_segments(const char*, const RouteSegments<double>&);

}  // namespace seqrec_fast
