// How an exact scan is cut into blocks of threads, and where its workspace lies.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cells/target_macros.h"
#include "cuda/device.h"
#include "cuda/row_tiles.h"

namespace seqrec_fast {
namespace cuda {

using CandidateKey = unsigned long long;

constexpr int kTopkThreads = 256;
// Of a multiprocessor.
constexpr int kBlocksAtOnce = 2;

// Few queries: a thread scores an item for one query or half of them, and the stream of items
// from memory bounds the kernel. More: register tiles, and arithmetic bounds it.
template <int kQueries>
using StreamShape = TileShape<float, (kQueries + 1) / 2, 1, kQueries == 1 ? 256 : 128>;
template <int kQueriesPerThread>
using TiledShape = TileShape<float, kQueriesPerThread, 4, 32>;

struct TopkPlan {
    // More are found in several passes, each of which takes what follows the last.
    static constexpr std::int64_t kMostPerPass = 1024;

    TopkPlan(std::int64_t n_queries, std::int64_t n_items, std::int64_t k) {
        k_pass = std::min(k, kMostPerPass);
        const bool streams = n_queries <= 8;
        const std::int64_t least = streams ? 1 : 16, most = streams ? 8 : 64;
        for (tile_queries = least; tile_queries < std::min(n_queries, most);) {
            tile_queries *= 2;
        }
        const std::int64_t tile_items = tile_queries == 1 ? 256 : 128;
        n_tiles = (n_queries + tile_queries - 1) / tile_queries;
        // As many as run at once. A range that is not much longer than k keeps all it has.
        const std::int64_t blocks = std::int64_t{multiprocessors()} * kBlocksAtOnce;
        const std::int64_t shortest = std::max(tile_items, 2 * k_pass);
        most_ranges = std::max<std::int64_t>(1, n_items / shortest);
        n_ranges =
            std::clamp<std::int64_t>(blocks / std::max<std::int64_t>(1, n_tiles), 1, most_ranges);
        n_blocks = n_tiles * n_ranges;
        for (capacity = 64; capacity < k_pass + tile_items;) {
            capacity *= 2;
        }
        // keys of every block, how many they are, floors, ceilings
        counts = n_blocks * tile_queries * capacity;
        floors = counts + n_blocks * tile_queries;
        ceilings = floors + n_queries;
        workspace = ceilings + n_queries;
    }

    // On the GPU: fewer queries than planned may be asked, or none; their items are then cut into
    // more ranges.
    SEQREC_FN std::int64_t n_asked(std::int64_t n_queries) const {
        return asked == nullptr ? n_queries : static_cast<std::int64_t>(asked[0]);
    }
    SEQREC_FN std::int64_t query(std::int64_t number) const {
        return asked == nullptr ? number : static_cast<std::int64_t>(asked[1 + number]);
    }
    SEQREC_FN TopkPlan of_asked(std::int64_t n_queries) const {
        TopkPlan plan = *this;
        if (asked != nullptr) {
            plan.n_tiles = (n_asked(n_queries) + tile_queries - 1) / tile_queries;
            const std::int64_t ranges = plan.n_tiles == 0 ? 0 : n_blocks / plan.n_tiles;
            plan.n_ranges = ranges < most_ranges ? ranges : most_ranges;
        }
        return plan;
    }

    std::int64_t k_pass, tile_queries, n_tiles, n_ranges, most_ranges, n_blocks;
    std::int64_t capacity;  // keys of one query in one block, a power of two
    std::int64_t counts, floors, ceilings, workspace;
    std::int64_t item_step = 1;           // item i is known as i * item_step
    const CandidateKey* asked = nullptr;  // how many queries, then which; null: all
};

}  // namespace cuda
}  // namespace seqrec_fast
