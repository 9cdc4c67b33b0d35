// Selecting the best k of a stream of scored items, for a tile of queries.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>

#include "cells/candidate_key.h"

namespace seqrec_fast {

// Room for candidates of one query that wait to be scored, see candidate_pool-inl.h.
constexpr std::int64_t waiting_capacity_for(std::int64_t k) {
    return (6 * k + 64 + 15) / 16 * 16;
}
constexpr std::int64_t kWaitingBytes = 12;

// One reservoir of keys per query, cut back to the best k whenever it is full. The memory is the
// caller's: one entry per query, `keys` holds `capacity` for each.
struct TopkSelection {
    std::int64_t k, capacity;
    float* floors;              // the smallest score that can still matter
    std::uint64_t* floor_keys;  // the smallest key that can
    std::int64_t* counts;       // keys in the reservoir
    std::uint64_t* keys;

    // A cut takes time of the order of k, but a floor that lags lets more candidates in.
    static std::int64_t capacity_for(std::int64_t k, std::int64_t n_items) {
        return std::min(k + k / 8 + 4, n_items);
    }
    void clear(std::int64_t rows) {
        std::fill_n(floors, rows, -std::numeric_limits<float>::infinity());
        std::fill_n(floor_keys, rows, 0);
        std::fill_n(counts, rows, 0);
    }
    // `score` is not NaN.
    bool wants(std::int64_t row, float score, std::uint32_t id) const {
        return score >= floors[row] && candidate_key(score, id) >= floor_keys[row];
    }
    // A candidate that is wanted. True if the floors have risen.
    bool add(std::int64_t row, float score, std::uint32_t id) {
        const bool full = counts[row] == capacity;
        if (full) {
            cut(row);
            if (!wants(row, score, id)) {
                return true;
            }
        }
        keys[row * capacity + counts[row]++] = candidate_key(score, id);
        return full;
    }
    // The best k keys of a query, the best first. Returns how many there are.
    std::int64_t finish(std::int64_t row) {
        std::uint64_t* const first = keys + row * capacity;
        std::uint64_t* const last = first + counts[row];
        counts[row] = std::min(counts[row], k);
        std::partial_sort(first, first + counts[row], last, std::greater<>());
        return counts[row];
    }

  private:
    void cut(std::int64_t row) {
        std::uint64_t* const first = keys + row * capacity;
        std::nth_element(first, first + k - 1, first + counts[row], std::greater<>());
        counts[row] = k;
        floor_keys[row] = first[k - 1];
        floors[row] = std::max(floors[row], candidate_score(first[k - 1]));
    }
};

}  // namespace seqrec_fast
