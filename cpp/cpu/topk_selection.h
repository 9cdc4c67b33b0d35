// Selecting the best k of a stream of scored items, for a tile of queries.
//
// A candidate is one 64-bit key: the score in the order of integers, then the inverted id. Keys
// are unique, so the best k of any set of candidates is one definite answer, whatever the order
// they came in and however the set was split.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>

namespace seqrec_fast {

// Unsigned integers in the order of floats; -0 and +0 are the same one.
inline std::uint32_t orderable(float score) {
    score += 0.0f;  // -0 becomes +0
    std::uint32_t bits;
    std::memcpy(&bits, &score, sizeof(bits));
    return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

inline float from_orderable(std::uint32_t order) {
    const std::uint32_t bits = (order >> 31) != 0 ? order & 0x7fffffffu : ~order;
    float score;
    std::memcpy(&score, &bits, sizeof(score));
    return score;
}

inline std::uint64_t candidate_key(float score, std::uint32_t id) {
    return (static_cast<std::uint64_t>(orderable(score)) << 32) | ~id;
}
inline float candidate_score(std::uint64_t key) {
    return from_orderable(static_cast<std::uint32_t>(key >> 32));
}
inline std::uint32_t candidate_id(std::uint64_t key) {
    return ~static_cast<std::uint32_t>(key);
}

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
