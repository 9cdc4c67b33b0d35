// How a batch of sessions is cut into tiles, each run by one thread through all its time steps.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/parallel.h"
#include "base/precision.h"
#include "base/sequence_layout.h"

namespace seqrec_fast {

// Rows of a tile: a multiple of every register tile's rows, and few enough that the tile's state
// and gates stay in L2 beside the weights. With several threads a small batch is cut smaller.
inline std::int64_t tile_rows(std::int64_t batch, Precision precision) {
    const std::int64_t most = precision == Precision::full ? 48 : 64;
    const std::int64_t share = (batch + num_threads() - 1) / num_threads();
    return std::min(most, (share + 7) / 8 * 8);
}

// Calls task(first, last) for tiles of [0, batch), on all threads.
template <class Task>
void for_each_tile_of_rows(std::int64_t batch, Precision precision, const Task& task) {
    const std::int64_t rows = tile_rows(batch, precision);
    if (batch == 0) {
        return;
    }
    parallel_for((batch + rows - 1) / rows,
                 [&](std::int64_t i) { task(i * rows, std::min(batch, (i + 1) * rows)); });
}

// The sessions of one tile, longest first: [first, last) of SequenceLayout::by_length.
class SessionTile {
  public:
    SessionTile(const SequenceLayout& layout, std::int64_t first, std::int64_t last, bool reverse)
        : layout_(layout),
          sessions_(layout.by_length().data() + first),
          rows_(last - first),
          reverse_(reverse) {}

    std::int64_t rows() const { return rows_; }
    std::int64_t session(std::int64_t row) const { return sessions_[row]; }
    std::int64_t max_steps() const { return steps(0); }
    // Rows that have a step `s` (a prefix), given that `at_most` rows had the step before.
    std::int64_t active(std::int64_t s, std::int64_t at_most) const {
        while (at_most > 0 && steps(at_most - 1) <= s) {
            --at_most;
        }
        return at_most;
    }
    std::int64_t steps(std::int64_t row) const { return layout_.length(sessions_[row]); }
    // The event that `row` processes in its step s, and its place in the session.
    std::int64_t event(std::int64_t row, std::int64_t s) const {
        return layout_.row(sessions_[row], time(row, s));
    }
    std::int64_t time(std::int64_t row, std::int64_t s) const {
        return reverse_ ? steps(row) - 1 - s : s;
    }

  private:
    const SequenceLayout& layout_;
    const std::int64_t* sessions_;
    std::int64_t rows_;
    bool reverse_;
};

}  // namespace seqrec_fast
