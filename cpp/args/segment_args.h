// What cuts of sequences into segments (sessions inside a history), and sums over them, are told.
#pragma once

#include <cstdint>

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

// out[s] = sum of the rows of segment s in their order, or their mean; 0 without rows.
template <class T>
struct SegmentSumArgs {
    const T* values;              // (N, dim)
    const std::int64_t* offsets;  // (segments + 1)
    std::int64_t segments, dim;
    bool mean;
    T* out;  // (segments, dim)
};

// The adjoint: out[n] = the row of the segment of n, or its share of it. Also for int64.
template <class T>
struct ExpandSegmentsArgs {
    const T* rows;                // (segments, dim)
    const std::int64_t* offsets;  // (segments + 1)
    std::int64_t segments, dim;
    bool mean;  // divides by the segment's length; not for int64
    T* out;     // (N, dim)
};

}  // namespace seqrec_fast
