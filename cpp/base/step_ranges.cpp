#include "base/step_ranges.h"

#include <algorithm>

namespace seqrec_fast {
namespace {

// Tiles enough for many threads.
constexpr std::int64_t kMostSessions = 768;

// Appends the ranges of the sessions [first, last).
void add_ranges(const SequenceLayout& layout, std::int64_t first, std::int64_t last,
                std::int64_t most_events, std::vector<StepRange>& ranges) {
    const std::int64_t* sessions = layout.by_length().data();
    const std::int64_t steps = first < last ? layout.length(sessions[first]) : 0;
    StepRange range{first, first, steps, steps, 0, false};
    for (std::int64_t step = steps; step-- > 0;) {
        std::int64_t active = range.last_session;
        while (active < last && layout.length(sessions[active]) > step) {
            ++active;
        }
        const std::int64_t more = active - first;
        if (range.events > 0 && range.events + more > most_events) {
            ranges.push_back(range);
            range.last_step = range.first_step;
            range.events = 0;
        }
        range.last_session = active;
        range.first_step = step;
        range.events += more;
    }
    range.last_session = last;
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

void append_events(const SequenceLayout& layout, bool reverse, const StepRange& range,
                   std::vector<std::int64_t>& events, std::vector<std::int64_t>& step_rows) {
    const std::int64_t* sessions = layout.by_length().data();
    const std::size_t before = events.size();
    step_rows.assign(static_cast<std::size_t>(range.last_step - range.first_step), 0);
    for (std::int64_t s = range.last_step; s-- > range.first_step;) {
        step_rows[static_cast<std::size_t>(s - range.first_step)] =
            static_cast<std::int64_t>(events.size() - before);
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
