// What is computed per segment, on a GPU: as args/segment_args.h and args/route_segments_args.h,
// with pointers to its memory.
#pragma once

#include "args/route_segments_args.h"
#include "args/segment_args.h"
#include "cuda/simt.h"

namespace seqrec_fast {

// `events` is N, what the offsets end at; nothing outside of the arrays is touched if they do not.
template <class T>
void segment_sum_cuda(const SegmentSumArgs<T>& args, std::int64_t events, cudaStream_t stream);

template <class T>
void expand_segments_cuda(const ExpandSegmentsArgs<T>& args, std::int64_t events,
                          cudaStream_t stream);

// Marks the events that start a segment, and sets *status to 1 if offsets are no partition of the
// events or times decrease or are not finite; marks tell nothing then.
template <class Time>
void segment_starts_cuda(const SegmentCutArgs<Time>& args, std::int64_t events,
                         std::uint8_t* starts, std::int64_t* status, cudaStream_t stream);

template <class T>
void route_segments_cuda(const RouteSegmentsArgs<T>& args, std::int64_t events,
                         cudaStream_t stream);

}  // namespace seqrec_fast
