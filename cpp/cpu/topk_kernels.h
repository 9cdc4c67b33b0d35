// The CPU kernels over a catalogue; each picks the active target once per call.
#pragma once

#include <atomic>
#include <cstdint>

#include "cpu/packed_items.h"

namespace seqrec_fast {

// Counters of all calls on one catalogue.
struct TopkStatistics {
    std::atomic<std::int64_t> queries{0};
    std::atomic<std::int64_t> candidates{
        0};  // items scored because their codes did not rule them out
    std::atomic<std::int64_t> blocks_scanned{0};  // once per tile of queries
    std::atomic<std::int64_t> blocks_skipped{0};
};

// Ids that queries must not be given. Ids are local: those of PackedItems::ids.
struct ExcludedIds {
    const std::int64_t* values = nullptr;   // global ids, any order; ids outside are ignored
    const std::int64_t* offsets = nullptr;  // (B + 1): where a query's ids lie
};

// Ids that queries may be given; by default all.
struct AllowedIds {
    const std::uint64_t* bits = nullptr;    // bit i: local id i
    std::int64_t words = 0;                 // from one query's bits to the next's; 0: shared
    const std::int64_t* values = nullptr;   // or global ids, any order, repeated or not
    const std::int64_t* offsets = nullptr;  // (B + 1); null: all of them, for every query
    std::int64_t n_values = 0;
};

// B queries of `items->dim` terms. Row-major; "optional" pointers may be null.
struct TopkArgs {
    const PackedItems* items;
    const float* queries;    // (B, dim)
    std::int64_t n_queries;  // B
    std::int64_t k;          // at least 1; may exceed the number of items
    ExcludedIds excluded;
    AllowedIds allowed;
    float* scores;      // (B, k): descending; -inf where no item is left
    std::int64_t* ids;  // (B, k): global, ascending where scores tie; -1 likewise
    TopkStatistics* statistics;
};

void topk_cpu(const TopkArgs& args);

// Where one item stands for each query. All -1 if its score is NaN or it is excluded.
struct RankArgs {
    const PackedItems* items;
    const float* queries;         // (B, dim)
    std::int64_t n_queries;       // B
    const std::int64_t* targets;  // (B): global ids of this catalogue
    ExcludedIds excluded;
    std::int64_t* greater;  // (B): items that score higher
    std::int64_t* equal;    // (B): other items with the same score
    std::int64_t* before;   // (B): those of `equal` with a smaller id
};

void rank_cpu(const RankArgs& args);

}  // namespace seqrec_fast
