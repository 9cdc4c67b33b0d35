#include "ops/route_segments.h"

#include "ops/argument_checks.h"

namespace seqrec_fast {

template <class T>
void route_segments(const char* function, const RouteSegments<T>& call) {
    const RouteSegmentsArgs<T> args = checked_route_segments(function, call);
    check_offsets(function, "segment_offsets", call.offsets, call.values.rows, "values");
    route_segments_cpu(args);
}

template void route_segments(const char*, const RouteSegments<float>&);
template void route_segments(const char*, const RouteSegments<double>&);

}  // namespace seqrec_fast
