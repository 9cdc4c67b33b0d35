#include "ops/segment.h"

#include <cmath>

#include "base/enum_names.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {
namespace {

template <class Time>
void check_times(const char* function, const SessionSegments<Time>& call) {
    check_offsets(function, "offsets", call.offsets, call.times.columns, "times");
    const Time* const times = call.times.data;
    for (std::int64_t n = 0; n < call.times.columns; ++n) {
        SEQREC_CHECK(std::isfinite(static_cast<double>(times[n])), function, ": times[", n, "] is ",
                     times[n], "; expected finite numbers");
    }
    for (std::int64_t b = 0; b + 1 < call.offsets.columns; ++b) {
        for (std::int64_t n = call.offsets.data[b] + 1; n < call.offsets.data[b + 1]; ++n) {
            SEQREC_CHECK(times[n - 1] <= times[n], function, ": times decrease from ", times[n - 1],
                         " to ", times[n], " at index ", n, ", inside sequence ", b);
        }
    }
}

}  // namespace

SegmentRule parse_segment_rule(const std::string& name) {
    static constexpr EnumName<SegmentRule> kNames[] = {{"window", SegmentRule::window},
                                                       {"gap", SegmentRule::gap},
                                                       {"top_gaps", SegmentRule::top_gaps}};
    return parse_enum("session_segments: rule", name, kNames);
}

template <class Time>
SegmentCuts session_segments(const char* function, const SessionSegments<Time>& call) {
    const SegmentCutArgs<Time> args = checked_session_segments(function, call);
    if (call.rule == SegmentRule::window) {
        check_offsets(function, "offsets", call.offsets, args.offsets[args.batch], "events");
    } else {
        check_times(function, call);
    }
    return cut_segments_cpu(args);
}

template SegmentCuts session_segments(const char*, const SessionSegments<double>&);
template SegmentCuts session_segments(const char*, const SessionSegments<std::int64_t>&);

template <class T>
void segment_sum(const char* function, const SegmentSum<T>& call) {
    const SegmentSumArgs<T> args = checked_segment_sum(function, call);
    check_offsets(function, "segment_offsets", call.offsets, call.values.rows, "values");
    expect_fresh(call.out);
    segment_sum_cpu(args);
}

template <class T>
void expand_segments(const char* function, const ExpandSegments<T>& call) {
    const ExpandSegmentsArgs<T> args = checked_expand_segments(function, call);
    check_offsets(function, "segment_offsets", call.offsets, call.out.rows, "events");
    expect_fresh(call.out);
    expand_segments_cpu(args);
}

template void segment_sum(const char*, const SegmentSum<float>&);
template void segment_sum(const char*, const SegmentSum<double>&);
template void expand_segments(const char*, const ExpandSegments<float>&);
template void expand_segments(const char*, const ExpandSegments<double>&);
template void expand_segments(const char*, const ExpandSegments<std::int64_t>&);

}  // namespace seqrec_fast
