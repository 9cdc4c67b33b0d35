// A batch of sessions, cut into ranges of steps that a backward pass goes through one by one.
#pragma once

#include <cstdint>
#include <vector>

#include "base/sequence_layout.h"

namespace seqrec_fast {

// Steps [first_step, last_step), in the order of the forward pass, of the sessions [first_session,
// last_session) of SequenceLayout::by_length.
struct StepRange {
    std::int64_t first_session, last_session, first_step, last_step;
    std::int64_t events;
    bool newest, oldest;  // the first and the last range of its sessions
};

// All steps of all sessions, in ranges of up to `most_events` or a few steps of some hundreds of
// sessions; of the same sessions the last steps first. There is one range at least. Threads do not
// matter: the order of sums depends on the ranges.
std::vector<StepRange> step_ranges(const SequenceLayout& layout, std::int64_t most_events);

// The events of a range, step after step, those of a step as in SequenceLayout::by_length.
struct RangeEvents {
    std::vector<std::int64_t> step_rows;  // where a step's events begin
    std::vector<std::int64_t> events;     // rows of the event matrices

    // `reverse`: the forward pass began with the newest event.
    RangeEvents(const SequenceLayout& layout, bool reverse, const StepRange& range);

    std::int64_t count() const { return static_cast<std::int64_t>(events.size()); }
    // Their rows of an event matrix.
    template <class T>
    std::vector<const T*> rows_of(const T* matrix, std::int64_t columns) const {
        std::vector<const T*> rows;
        rows.reserve(events.size());
        for (const std::int64_t event : events) {
            rows.push_back(matrix + event * columns);
        }
        return rows;
    }
};

}  // namespace seqrec_fast
