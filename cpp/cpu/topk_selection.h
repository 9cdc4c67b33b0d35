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

// Ids that a query must not be given, ascending.
struct ExcludedIds {
    const std::int32_t* begin = nullptr;
    const std::int32_t* end = nullptr;
};

// One reservoir of keys per query, cut back to the best k whenever it is full. The memory is the
// caller's: `floors`, `counts` and `excluded` hold one entry per query, `keys` holds `capacity`.
struct TopkSelection {
    std::int64_t k, capacity;
    float* floors;         // the smallest score that can still matter
    std::int64_t* counts;  // keys in the reservoir
    const ExcludedIds* excluded;
    std::uint64_t* keys;

    // Room to collect as many again before the next cut; a little more helps a small k.
    static std::int64_t capacity_for(std::int64_t k, std::int64_t n_items) {
        return std::min(2 * k + 16, n_items);
    }
    void clear(std::int64_t rows) {
        std::fill_n(floors, rows, -std::numeric_limits<float>::infinity());
        std::fill_n(counts, rows, 0);
    }
    // `score` is not NaN; every item with an id below `first_open` was offered before.
    void offer(std::int64_t row, float score, std::uint32_t id, std::uint32_t first_open) {
        const ExcludedIds ids = excluded[row];
        if (score < floors[row] ||
            std::binary_search(ids.begin, ids.end, static_cast<std::int32_t>(id))) {
            return;
        }
        if (counts[row] == capacity) {
            cut(row, first_open);
        }
        keys[row * capacity + counts[row]++] = candidate_key(score, id);
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
    void cut(std::int64_t row, std::uint32_t first_open) {
        std::uint64_t* const first = keys + row * capacity;
        std::nth_element(first, first + k - 1, first + counts[row], std::greater<>());
        counts[row] = k;
        // An item that ties with the k-th matters only if its id can be smaller. One step above
        // +inf is NaN, which no score reaches.
        const std::uint32_t order = static_cast<std::uint32_t>(first[k - 1] >> 32);
        floors[row] = from_orderable(candidate_id(first[k - 1]) < first_open ? order + 1 : order);
    }
};

}  // namespace seqrec_fast
