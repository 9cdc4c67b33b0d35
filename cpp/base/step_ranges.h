// A batch of sessions, cut into ranges of steps that a backward pass goes through one by one.
#pragma once

#include <cstdint>
#include <vector>

#include "base/sequence_layout.h"

namespace seqrec_fast {

// Steps [first_step, last_step), in the order of the forward pass, of the sessions [first_session,
// last_session) of SequenceLayout::by_length: those that have such a step, or all that are left
// where the steps are the oldest.
struct StepRange {
    std::int64_t first_session, last_session, first_step, last_step;
    std::int64_t events;
    bool oldest;  // the last range of its sessions
};

// All steps of all sessions, in ranges of up to `most_events` or one step of some hundreds of
// sessions; of the same sessions the last steps first. There is one range at least. Whatever
// `most_events`, the ranges one after the other have the events in the same order.
std::vector<StepRange> step_ranges(const SequenceLayout& layout, std::int64_t most_events);

// Appends the events of a range (rows of the event matrices) to `events`, the last step first,
// those of a step as in SequenceLayout::by_length. `step_rows` becomes, for every step from
// first_step on, how many of them come before its own. `reverse`: the forward pass began with the
// newest event.
void append_events(const SequenceLayout& layout, bool reverse, const StepRange& range,
                   std::vector<std::int64_t>& events, std::vector<std::int64_t>& step_rows);

}  // namespace seqrec_fast
