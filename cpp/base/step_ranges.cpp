#include "base/step_ranges.h"

#include <algorithm>

namespace seqrec_fast {
namespace {

// With fewer, handing over the gradients of the states would show.
constexpr std::int64_t kLeastSteps = 16;
// Tiles enough for many threads.
constexpr std::int64_t kMostSessions = 768;

// Appends the ranges of the sessions [first, last).
void add_ranges(const SequenceLayout& layout, std::int64_t first, std::int64_t last,
                std::int64_t most_events, std::vector<StepRange>& ranges) {
    const std::int64_t* sessions = layout.by_length().data();
    const std::int64_t steps = first < last ? layout.length(sessions[first]) : 0;
    StepRange range{first, last, steps, steps, 0, true, false};
    std::int64_t active = first;
    for (std::int64_t step = steps; step-- > 0;) {
        while (active < last && layout.length(sessions[active]) > step) {
            ++active;
        }
        const std::int64_t more = active - first;
        if (range.last_step - range.first_step >= kLeastSteps &&
            range.events + more > most_events) {
            ranges.push_back(range);
            range = {first, last, range.first_step, range.first_step, 0, false, false};
        }
        range.first_step = step;
        range.events += more;
    }
    range.oldest = true;
    ranges.push_back(range);
}

}  // namespace

std::vector<StepRange> step_ranges(const SequenceLayout& layout, std::int64_t most_events) {
    std::vector<StepRange> ranges;
    std::int64_t first = 0;
    do {
        const std::int64_t last = std::min(first + kMostSessions, layout.batch());
        add_ranges(layout, first, last, most_events, ranges);
        first = last;
    } while (first < layout.batch());
    return ranges;
}

RangeEvents::RangeEvents(const SequenceLayout& layout, bool reverse, const StepRange& range) {
    const std::int64_t* sessions = layout.by_length().data();
    events.reserve(static_cast<std::size_t>(range.events));
    for (std::int64_t s = range.first_step; s < range.last_step; ++s) {
        step_rows.push_back(count());
        for (std::int64_t i = range.first_session; i < range.last_session; ++i) {
            const std::int64_t steps = layout.length(sessions[i]);
            if (steps <= s) {
                break;
            }
            events.push_back(layout.row(sessions[i], reverse ? steps - 1 - s : s));
        }
    }
}

}  // namespace seqrec_fast
