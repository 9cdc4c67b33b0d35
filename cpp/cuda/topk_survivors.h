// Exact top-k for many queries: tensor cores rule out most items, what survives is scored exactly.
//
// 1. Every item_step-th item, the first of 8^n classes, is scored exactly. The k-th best of a part
//    is a floor: what is below it is not among the k best of all.
// 2. Step by step a part that is up to 7 times as large as what has been seen, and of 64 MB at
// most,
//    is multiplied in bfloat16. An item survives if its product reaches the floor less an error
//    bound (topk_bounds.h): about 7 k of a query, if items are in no order. They are scored
//    exactly, and the floor rises.
// 3. Queries that have more survivors than there is room for, or that no bound is for, are asked
//    again, of all items, without tensor cores.
// Which items survive depends on nothing but the floors, and these are exact: two runs do the same.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/topk_kernels.h"
#include "cuda/topk_plan.h"

namespace seqrec_fast {
namespace cuda {

// A tile is 128 queries and 128 items, a part of it 2 pairs. A pair is 32 terms, of which a lane
// has 8 in a row: two products of 16 terms.
constexpr int kTensorQueries = 128, kTensorItems = 128, kPairTerms = 32;
constexpr int kBoundItems = 8;  // items that share a bound: the columns of a product
constexpr int kPairsOfPart = 2;

// What a query contributes to error bounds, see topk_bounds.h.
struct QueryBound {
    float norm_share, residual_share;
    enum Lost : int { no, found, asked_again } lost;
};
// The norms of kBoundItems items and of what rounding took from them, at most.
struct alignas(8) ItemBound {
    float norm, residual;
};

struct TopkTensorPlan {
#if defined(__CUDACC__)
    static constexpr std::int64_t kLeastSample = 4096, kSpareSurvivors = 2048;
    static constexpr std::int64_t kSlabBytes = std::int64_t{64} << 20;
#else
    // Little, so that small tests take every path.
    static constexpr std::int64_t kLeastSample = 64, kSpareSurvivors = 0;
    static constexpr std::int64_t kSlabBytes = std::int64_t{64} << 10;
#endif
    static constexpr std::int64_t kGrowth = 8, kMostTerms = 1024;

    // Of items [0, n_items): those that are first scored exactly.
    static std::int64_t sampling_step(std::int64_t n_items, std::int64_t k) {
        const std::int64_t least = std::max(kLeastSample, 8 * k);
        std::int64_t step = 1;
        while (n_items / (step * kGrowth) >= least) {
            step *= kGrowth;
        }
        return step;
    }
    static bool pays(std::int64_t n_queries, std::int64_t n_items, std::int64_t dim,
                     std::int64_t k) {
        return n_queries >= kTensorQueries && dim <= kMostTerms && k <= TopkPlan::kMostPerPass &&
               sampling_step(n_items, k) > 1;
    }

    TopkTensorPlan(std::int64_t n_queries, std::int64_t n_items, std::int64_t dim, std::int64_t k)
        : step(sampling_step(n_items, k)),
          n_sampled((n_items + step - 1) / step),
          class_tiles((n_sampled + kTensorItems - 1) / kTensorItems),
          pairs((dim + kPairTerms - 1) / kPairTerms),
          n_tiles((n_queries + kTensorQueries - 1) / kTensorQueries) {
        const std::int64_t longest = class_tiles * (step - step / kGrowth);
        slab_tiles = std::clamp<std::int64_t>(kSlabBytes / tile_bytes(), 1, longest);
        const std::int64_t blocks = std::int64_t{multiprocessors()} * kBlocksAtOnce;
        n_ranges = std::clamp<std::int64_t>(blocks / n_tiles, 1, slab_tiles);
        // Twice what is expected, and more where the k-th best of few is a matter of luck.
        capacity = (16 * k + kSpareSurvivors) / n_ranges + 32;
        std::int64_t end = 0;
        const auto take = [&](std::int64_t bytes) {
            const std::int64_t begin = end;
            end += (bytes + 15) / 16 * 2;
            return begin;
        };
        take(8 * std::max(TopkPlan(n_queries, n_sampled, k).workspace,
                          TopkPlan(n_queries, n_items, k).workspace));
        const std::int64_t rows = n_tiles * kTensorQueries, n_lists = n_ranges * rows;
        sampled_items = take(4 * n_sampled * dim);
        sampled_bias = take(4 * n_sampled);
        slab = take(slab_tiles * tile_bytes());
        queries = take(rows * pairs * kPairTerms * 2);
        bounds = take(rows * static_cast<std::int64_t>(sizeof(QueryBound)));
        lists = take(4 * n_lists * capacity);
        counts = take(4 * n_lists);
        lost = take(8 * (1 + n_queries));
        lost_queries = take(4 * n_queries * dim);
        workspace = end;
    }

    // Items of a tile, pair by pair in the order in which lanes have them, then their biases and
    // bounds.
    __host__ __device__ std::int64_t tile_bytes() const {
        return pairs * kTensorItems * kPairTerms * 2 + kHeadBytes;
    }
    static constexpr int kHeadBytes =
        kTensorItems * 4 + kTensorItems / kBoundItems * static_cast<int>(sizeof(ItemBound));

    template <class T>
    SEQREC_FN T* at(const TopkRowsArgs& args, std::int64_t place) const {
        return reinterpret_cast<T*>(args.workspace + place);
    }
    // Classes lie one after another, each a whole number of tiles, in such an order that the first
    // 8^n of them are every (step / 8^n)-th item. The item of a place, which may not exist.
    SEQREC_FN std::int64_t item(std::int64_t tile, int place) const {
        std::int64_t rank = tile / class_tiles, first = 0;
        const std::int64_t number = tile % class_tiles * kTensorItems + place;
        for (std::int64_t digits = step; digits > 1; digits /= kGrowth) {
            first = first * kGrowth + rank % kGrowth;
            rank /= kGrowth;
        }
        return number * step + first;
    }

    std::int64_t step, n_sampled, class_tiles, pairs, n_tiles, slab_tiles, n_ranges;
    std::int64_t capacity;  // survivors of a query among the tiles of a block
    std::int64_t sampled_items, sampled_bias, slab, queries, bounds, lists, counts;
    std::int64_t lost;          // how many queries are asked again, then which
    std::int64_t lost_queries;  // their rows
    std::int64_t workspace;
};

// Items that are multiplied at once.
struct TensorStep {
    std::int64_t first_tile, tiles;
};

// What the kernels of a step take.
struct SurvivorArgs {
    TopkRowsArgs topk;
    TopkTensorPlan plan;
    TensorStep step;

    // Of the survivors of a query in a range.
    SEQREC_FN std::int64_t list(std::int64_t range, std::int64_t query) const {
        return range * plan.n_tiles * kTensorQueries + query;
    }
};

// The parts of topk_of_survivors: what tensor cores read...
void sample_items(const TopkRowsArgs& args, const TopkTensorPlan& plan, cudaStream_t stream);
void pack_queries(const TopkRowsArgs& args, const TopkTensorPlan& plan, cudaStream_t stream);
void pack_items(const TopkRowsArgs& args, const TopkTensorPlan& plan, const TensorStep& step,
                cudaStream_t stream);
// ... the products, of which the lists of survivors are made...
void sift_items(const SurvivorArgs& args, cudaStream_t stream);
// ... and every query of `args`, or those that the plan names, against all items of `args`.
void topk_of_all(const TopkRowsArgs& args, const TopkPlan& plan, cudaStream_t stream);

void topk_of_survivors(const TopkRowsArgs& args, cudaStream_t stream);

}  // namespace cuda
}  // namespace seqrec_fast
