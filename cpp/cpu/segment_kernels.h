// Sequences cut into segments (sessions inside a history), and what is computed per segment.
#pragma once

#include <cstdint>
#include <vector>

namespace seqrec_fast {

enum class SegmentRule { window, gap, top_gaps };

template <class Time>
struct SegmentCutArgs {
    SegmentRule rule;
    const std::int64_t* offsets;  // (batch + 1)
    std::int64_t batch;
    const Time* times;    // (N), never decreasing inside a sequence; not read for window
    std::int64_t window;  // window: events of a segment; the last may have fewer
    double gap;           // gap: a segment starts where more time than this has passed
    std::int64_t count;   // top_gaps: at most so many segments, cut at the largest gaps > 0;
                          // of equal gaps at the earliest
};

struct SegmentCuts {
    std::vector<std::int64_t> offsets;           // (S + 1) over events
    std::vector<std::int64_t> sequence_offsets;  // (batch + 1) over segments
};

// A sequence without events has no segments.
template <class Time>
SegmentCuts cut_segments_cpu(const SegmentCutArgs<Time>& args);

// out[s] = sum of the rows of segment s in their order, or their mean; 0 without rows.
template <class T>
struct SegmentSumArgs {
    const T* values;              // (N, dim)
    const std::int64_t* offsets;  // (segments + 1)
    std::int64_t segments, dim;
    bool mean;
    T* out;  // (segments, dim)
};

template <class T>
void segment_sum_cpu(const SegmentSumArgs<T>& args);

// The adjoint: out[n] = the row of the segment of n, or its share of it. Also for int64.
template <class T>
struct ExpandSegmentsArgs {
    const T* rows;                // (segments, dim)
    const std::int64_t* offsets;  // (segments + 1)
    std::int64_t segments, dim;
    bool mean;  // divides by the segment's length; not for int64
    T* out;     // (N, dim)
};

template <class T>
void expand_segments_cpu(const ExpandSegmentsArgs<T>& args);

}  // namespace seqrec_fast
