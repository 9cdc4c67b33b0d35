#include "ops/step_ranges.h"

namespace seqrec_fast {

std::vector<StepRange> step_ranges(const SequenceLayout& layout, std::int64_t most_events) {
    // With fewer, handing over the gradients of many sessions' states would show.
    constexpr std::int64_t kLeastSteps = 16;
    const std::vector<std::int64_t>& sessions = layout.by_length();
    std::int64_t step = sessions.empty() ? 0 : layout.length(sessions[0]);
    std::vector<StepRange> ranges;
    StepRange range{step, step, 0};
    for (std::size_t active = 0; step-- > 0;) {
        while (active < sessions.size() && layout.length(sessions[active]) > step) {
            ++active;
        }
        const auto more = static_cast<std::int64_t>(active);
        if (range.last - range.first >= kLeastSteps && range.events + more > most_events) {
            ranges.push_back(range);
            range = {range.first, range.first, 0};
        }
        range.first = step;
        range.events += more;
    }
    ranges.push_back(range);
    return ranges;
}

RangeEvents::RangeEvents(const SequenceLayout& layout, bool reverse, const StepRange& range) {
    events.reserve(static_cast<std::size_t>(range.events));
    for (std::int64_t s = range.first; s < range.last; ++s) {
        step_rows.push_back(count());
        for (const std::int64_t session : layout.by_length()) {
            const std::int64_t steps = layout.length(session);
            if (steps <= s) {
                break;
            }
            events.push_back(layout.row(session, reverse ? steps - 1 - s : s));
        }
    }
}

}  // namespace seqrec_fast
