// Sessions inside a history: checked, then computed. See args/segment_args.h.
#pragma once

#include <cstdint>
#include <string>

#include "base/tensor_view.h"
#include "cpu/segment_kernels.h"

namespace seqrec_fast {

// Throws std::invalid_argument for a name that is no rule.
SegmentRule parse_segment_rule(const std::string& name);

template <class Time>
struct SessionSegments {
    SegmentRule rule;
    MatrixView<const std::int64_t> offsets;  // (1, B + 1)
    MatrixView<const Time> times;            // (1, N); absent for window
    std::int64_t window;
    double gap;
    std::int64_t count;
};

// Contents are not looked at.
template <class Time>
SegmentCutArgs<Time> checked_session_segments(const char* function,
                                              const SessionSegments<Time>& call);

template <class Time>
SegmentCuts session_segments(const char* function, const SessionSegments<Time>& call);

template <class T>
struct SegmentSum {
    MatrixView<const T> values;              // (N, dim)
    MatrixView<const std::int64_t> offsets;  // (1, S + 1)
    bool mean;
    MatrixView<T> out;  // (S, dim)
};

// Offsets are not looked at.
template <class T>
SegmentSumArgs<T> checked_segment_sum(const char* function, const SegmentSum<T>& call);

template <class T>
void segment_sum(const char* function, const SegmentSum<T>& call);

template <class T>
struct ExpandSegments {
    MatrixView<const T> rows;                // (S, dim)
    MatrixView<const std::int64_t> offsets;  // (1, S + 1)
    bool mean;
    MatrixView<T> out;  // (N, dim)
};

// Offsets are not looked at.
template <class T>
ExpandSegmentsArgs<T> checked_expand_segments(const char* function, const ExpandSegments<T>& call);

template <class T>
void expand_segments(const char* function, const ExpandSegments<T>& call);

}  // namespace seqrec_fast
