// How a top-k is cut into blocks of threads, and where its workspace lies.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/device.h"
#include "cuda/row_tiles.h"

namespace seqrec_fast {
namespace cuda {

using CandidateKey = unsigned long long;

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
        streams = n_queries <= 8;
        const std::int64_t least = streams ? 1 : 16, most = streams ? 8 : 64;
        for (tile_queries = least; tile_queries < std::min(n_queries, most);) {
            tile_queries *= 2;
        }
        tile_items = tile_queries == 1 ? 256 : 128;
        n_tiles = (n_queries + tile_queries - 1) / tile_queries;
        // As many as run at once. A range that is not much longer than k keeps all it has.
        const std::int64_t blocks = std::int64_t{multiprocessors()} * kBlocksAtOnce;
        const std::int64_t shortest = std::max(tile_items, 2 * k_pass);
        const std::int64_t longest = std::max<std::int64_t>(1, n_items / shortest);
        n_ranges =
            std::clamp<std::int64_t>(blocks / std::max<std::int64_t>(1, n_tiles), 1, longest);
        for (capacity = 64; capacity < k_pass + tile_items;) {
            capacity *= 2;
        }
        // keys of every block, how many they are, floors, ceilings
        counts = n_tiles * n_ranges * tile_queries * capacity;
        floors = counts + n_tiles * n_ranges * tile_queries;
        ceilings = floors + n_queries;
        workspace = ceilings + n_queries;
    }

    std::int64_t k_pass, tile_queries, tile_items, n_tiles, n_ranges;
    std::int64_t capacity;  // keys of one query in one block, a power of two
    std::int64_t counts, floors, ceilings, workspace;
    bool streams;
};

}  // namespace cuda
}  // namespace seqrec_fast
