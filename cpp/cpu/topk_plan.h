// How a call of top-k is cut into tasks, and how their answers come together.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "base/aligned_buffer.h"
#include "base/parallel.h"
#include "cpu/topk_kernels.h"
#include "cpu/topk_selection.h"

namespace seqrec_fast {

// How a call is split into tasks: tiles of queries, as large as they may be, times ranges of
// blocks, which share what they know of the floors.
struct TopkPlan {
    explicit TopkPlan(const TopkArgs& args)
        : k(std::min(args.k, args.items->n_items)),
          capacity(TopkSelection::capacity_for(k, args.items->n_items)) {
        constexpr std::int64_t kMaxTileRows = 128;        // queries and a block share L1 and L2
        constexpr std::int64_t kMaxTileBytes = 16 << 20;  // of keys and candidates
        constexpr std::int64_t kMinRangeWork = 1 << 21;   // multiply-adds per query
        const PackedItems& items = *args.items;
        const std::int64_t row_bytes = 8 * capacity + kWaitingBytes * waiting_capacity_for(k);
        const std::int64_t most =
            std::clamp<std::int64_t>(kMaxTileBytes / row_bytes, 1, kMaxTileRows);
        const std::int64_t threads = num_threads();
        n_tiles = (args.n_queries + most - 1) / most;
        tile_rows = (args.n_queries + n_tiles - 1) / n_tiles;
        n_tiles = (args.n_queries + tile_rows - 1) / tile_rows;
        const std::int64_t wanted = threads == 1 ? 1 : (2 * threads + n_tiles - 1) / n_tiles;
        const std::int64_t work = items.n_items * items.dim;
        n_ranges = args.allowed.values != nullptr
                       ? 1
                       : std::clamp<std::int64_t>(work / kMinRangeWork, 1, wanted);
        upper_codes = reads_upper_codes(items, tile_rows, k);
    }

    std::int64_t k, capacity;
    std::int64_t n_tiles, tile_rows, n_ranges;
    bool upper_codes;

  private:
    // The upper halves are half the bytes but rule out less: worth it for few queries that read a
    // catalogue from memory, as long as their bound is not much wider than scores are apart and few
    // items are wanted.
    static bool reads_upper_codes(const PackedItems& items, std::int64_t rows, std::int64_t k) {
        constexpr std::int64_t kFewRows = 4, kCacheBytes = 8 << 20, kItemsPerWanted = 8192;
        if (!items.has_codes() || rows > kFewRows || items.n_items * items.dim < kCacheBytes ||
            items.n_items < k * kItemsPerWanted) {
            return false;
        }
        const BlockBounds& middle = items.bounds[items.n_blocks() / 2];
        const double spread = middle.norm / std::sqrt(static_cast<double>(items.dim));
        return middle.high_residual < kUpperSpread * spread;
    }
    static constexpr double kUpperSpread = 0.95;
};

// The best keys of each query in each range, when there are several ranges.
struct PartialAnswers {
    PartialAnswers(const TopkArgs& args, const TopkPlan& plan)
        : k(plan.k),
          n_ranges(plan.n_ranges),
          keys(static_cast<std::size_t>(args.n_queries * n_ranges * k)),
          counts(static_cast<std::size_t>(args.n_queries * n_ranges)),
          floors(static_cast<std::size_t>(args.n_queries)) {
        for (std::atomic<float>& floor : floors) {
            floor.store(-std::numeric_limits<float>::infinity(), std::memory_order_relaxed);
        }
    }

    void put(std::int64_t query, std::int64_t range, const std::uint64_t* best,
             std::int64_t count) {
        const std::int64_t part = query * n_ranges + range;
        counts[static_cast<std::size_t>(part)] = count;
        std::copy_n(best, count, keys.data() + part * k);
    }
    // Moves the keys of all ranges of a query together; returns the first and the number kept.
    std::uint64_t* merge(std::int64_t query, std::int64_t* count) {
        std::uint64_t* const first = keys.data() + query * n_ranges * k;
        std::uint64_t* last = first;
        for (std::int64_t range = 0; range < n_ranges; ++range) {
            last = std::copy_n(first + range * k,
                               counts[static_cast<std::size_t>(query * n_ranges + range)], last);
        }
        *count = std::min<std::int64_t>(k, last - first);
        std::partial_sort(first, first + *count, last, std::greater<>());
        return first;
    }

    std::int64_t k, n_ranges;
    AlignedBuffer<std::uint64_t> keys;
    std::vector<std::int64_t> counts;
    std::vector<std::atomic<float>> floors;
};

}  // namespace seqrec_fast
