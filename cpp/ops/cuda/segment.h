// What is computed per segment on a GPU: checked, then started on a stream. Arrays are in the GPU's
// memory; offsets are not looked at, and have to be a partition of the events.
#pragma once

#include "cuda/simt.h"
#include "ops/route_segments.h"
#include "ops/segment.h"

namespace seqrec_fast {

// Marks the events that start a segment: `starts` (1, N). `status` (1, 1) is set to 1 if contents
// are wrong, as session_segments of ops/segment.h has it.
template <class Time>
void segment_starts(const char* function, const SessionSegments<Time>& call,
                    const MatrixView<std::uint8_t>& starts, const MatrixView<std::int64_t>& status,
                    cudaStream_t stream);

// As those of ops/segment.h and ops/route_segments.h.
template <class T>
void segment_sum(const char* function, const SegmentSum<T>& call, cudaStream_t stream);

template <class T>
void expand_segments(const char* function, const ExpandSegments<T>& call, cudaStream_t stream);

template <class T>
void route_segments(const char* function, const RouteSegments<T>& call, cudaStream_t stream);

}  // namespace seqrec_fast
