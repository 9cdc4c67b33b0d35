// Sequences cut into segments (sessions inside a history), and what is computed per segment.
#pragma once

#include <vector>

#include "args/segment_args.h"

namespace seqrec_fast {

struct SegmentCuts {
    std::vector<std::int64_t> offsets;           // (S + 1) over events
    std::vector<std::int64_t> sequence_offsets;  // (batch + 1) over segments
};

// A sequence without events has no segments.
template <class Time>
SegmentCuts cut_segments_cpu(const SegmentCutArgs<Time>& args);

template <class T>
void segment_sum_cpu(const SegmentSumArgs<T>& args);

template <class T>
void expand_segments_cpu(const ExpandSegmentsArgs<T>& args);

}  // namespace seqrec_fast
