// Sessions to experts in one pass: checked, then computed. See args/route_segments_args.h.
#pragma once

#include <cstdint>

#include "cpu/route_segments.h"
#include "ops/gate.h"

namespace seqrec_fast {

template <class T>
struct RouteSegments {
    MatrixView<const T> values;              // (N, dim)
    MatrixView<const std::int64_t> offsets;  // (1, S + 1)
    MatrixView<const T> prototypes;          // (M, dim)
    GateCall<T> gate;                        // its logits are those below
    MatrixView<T> means, logits, weights;    // (S, dim), (S, M), (S, k): written
    MatrixView<std::int64_t> ids;            // (S, k): written
};

// Offsets are not looked at.
template <class T>
RouteSegmentsArgs<T> checked_route_segments(const char* function, const RouteSegments<T>& call);

template <class T>
void route_segments(const char* function, const RouteSegments<T>& call);

}  // namespace seqrec_fast
