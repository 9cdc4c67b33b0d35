// Exact top-k of q . item + bias on a GPU.
//
// A block scores a range of items for a tile of queries. Scores live in registers only: each is
// compared with its query's floor, the k-th best that any block has found so far, and the few that
// reach it go to a reservoir. A second kernel merges the reservoirs of the ranges. Floors depend on
// which block is first, the answer does not: it is the best k by keys that are unique.
// Bound: few queries, memory bandwidth; many, float32 arithmetic, so that of many queries and items
// only those are scored that tensor cores do not rule out (topk_survivors.h).
#include "cuda/launch.h"
#include "cuda/topk_candidates.h"
#include "cuda/topk_survivors.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr int kThreads = kTopkThreads, kWarps = kThreads / kWarp;

// Queries that a plan names have an answer already, of some of the items.
__global__ void __launch_bounds__(kThreads) start_kernel(TopkRowsArgs args, TopkPlan plan) {
    const std::int64_t number = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (number < plan.n_asked(args.n_queries)) {
        args.workspace[plan.floors + number] =
            plan.asked == nullptr ? 0 : answer_key(args, plan.query(number), plan.k_pass - 1);
        args.workspace[plan.ceilings + number] = ~CandidateKey{0};
    }
}

// Which sums of a thread reach the floors of their rows, as bits.
template <class Shape>
SEQREC_FN unsigned hits_of(const TopkRowsArgs& args, const Candidates<Shape::kRows>& candidates,
                           std::int64_t first_item, const TileSums<Shape>& sums) {
    const std::int64_t first = first_item + Shape::item(0), rest = args.n_items - first;
    const int left = rest < Shape::kItems ? static_cast<int>(rest) : Shape::kItems;
    const float* const biases = args.bias == nullptr ? nullptr : args.bias + first;
    unsigned hits = 0;
    SEQREC_UNROLL
    for (int i = 0; i < Shape::kItemsPerThread; ++i) {
        constexpr int kStep = Shape::kItemThreads;
        if (i * kStep < left) {
            const float bias = biases == nullptr ? 0.0f : biases[i * kStep];
            SEQREC_UNROLL
            for (int r = 0; r < Shape::kRowsPerThread; ++r) {
                const bool hit = sums[r][i] + bias >= candidates.floor(Shape::row(r));
                hits |= hit ? 1U << (r * Shape::kItemsPerThread + i) : 0U;
            }
        }
    }
    return hits;
}

// Registers have no addresses.
template <class Shape>
SEQREC_FN float sum_at(const TileSums<Shape>& sums, int place) {
    float sum = 0;
    SEQREC_UNROLL
    for (int r = 0; r < Shape::kRowsPerThread; ++r) {
        SEQREC_UNROLL
        for (int i = 0; i < Shape::kItemsPerThread; ++i) {
            sum = place == r * Shape::kItemsPerThread + i ? sums[r][i] : sum;
        }
    }
    return sum;
}

template <class Shape>
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    scan_kernel(TopkRowsArgs args, TopkPlan planned) {
    SEQREC_DYNAMIC_SHARED(float, parts);
    SEQREC_SHARED Reservoirs<Shape::kRows> reservoirs;
    const TopkPlan plan = planned.of_asked(args.n_queries);
    if (blockIdx.x >= plan.n_tiles * plan.n_ranges) {
        return;
    }
    // Tiles of queries that read the same items run together, so that these come from L2.
    const std::int64_t range = blockIdx.x / plan.n_tiles;
    const std::int64_t first_query = blockIdx.x % plan.n_tiles * Shape::kRows;
    const std::int64_t item_tiles = (args.n_items + Shape::kItems - 1) / Shape::kItems;
    const RowsOf<float> queries{args.queries, args.n_queries, args.dim};
    const RowsOf<float> items{args.items, args.n_items, args.dim};
    const int thread = Shape::thread(), warp = thread / kWarp;
    Candidates<Shape::kRows> candidates(args, plan, first_query, reservoirs);
    candidates.clear(thread);
    // Warps that have room to sort in where tiles have been.
    const int room = static_cast<int>(Shape::kBytes / sizeof(CandidateKey) /
                                      static_cast<std::size_t>(plan.capacity));
    const int sorters = room < kWarps ? room : kWarps;
    const auto cut_rows = [&](int above) {
        for (int row = warp; warp < sorters && row < Shape::kRows; row += sorters) {
            if (candidates.count(row) > above) {
                candidates.cut(row, reinterpret_cast<CandidateKey*>(parts) + warp * plan.capacity);
            }
        }
    };
    CandidateKey others = 0;
    TileProducts<Shape> products(queries, first_query, items, parts);
    products.each(
        item_tiles * range / plan.n_ranges, item_tiles * (range + 1) / plan.n_ranges,
        [&] {
            if (thread < Shape::kRows) {
                candidates.raise(thread, others);
            }
        },
        [&](std::int64_t tile, const TileSums<Shape>& sums) {
            others = candidates.others_floor(thread);
            const std::int64_t first = tile * Shape::kItems;
            for (unsigned hits = hits_of<Shape>(args, candidates, first, sums); hits != 0;
                 hits &= hits - 1) {
                const int place = __ffs(hits) - 1;
                const int row = Shape::row(place / Shape::kItemsPerThread);
                const std::int64_t item = first + Shape::item(place % Shape::kItemsPerThread);
                const float bias = args.bias == nullptr ? 0.0f : args.bias[item];
                candidates.offer(row, sum_at<Shape>(sums, place) + bias, item);
            }
        },
        [&] { cut_rows(static_cast<int>(plan.capacity) - Shape::kItems); });
    __syncthreads();
    cut_rows(0);
    __syncthreads();
    if (thread < Shape::kRows) {
        args.workspace[plan.counts + static_cast<std::int64_t>(blockIdx.x) * Shape::kRows +
                       thread] = static_cast<CandidateKey>(candidates.count(thread));
    }
}

// What the ranges have found for a query, in order.
struct Found {
    static constexpr bool kSorted = true;

    SEQREC_FN std::int64_t place(std::int64_t range) const {
        return (range * plan.n_tiles + number / plan.tile_queries) * plan.tile_queries +
               number % plan.tile_queries;
    }
    SEQREC_FN std::int64_t count(std::int64_t range) const {
        return static_cast<std::int64_t>(workspace[plan.counts + place(range)]);
    }
    SEQREC_FN CandidateKey key(std::int64_t range, std::int64_t i) const {
        return workspace[place(range) * plan.capacity + i];
    }

    const TopkPlan& plan;
    const CandidateKey* workspace;
    std::int64_t number;
};

__global__ void __launch_bounds__(kThreads)
    merge_kernel(TopkRowsArgs args, TopkPlan planned, std::int64_t done, int room) {
    SEQREC_DYNAMIC_SHARED(CandidateKey, keys);
    SEQREC_SHARED BestKeys best;
    const std::int64_t number = blockIdx.x;
    if (number >= planned.n_asked(args.n_queries)) {
        return;
    }
    const TopkPlan plan = planned.of_asked(args.n_queries);
    const int thread = static_cast<int>(threadIdx.x), k = static_cast<int>(plan.k_pass);
    if (thread == 0) {
        best = {0, 0, args.workspace[plan.floors + number]};
    }
    __syncthreads();
    best.add(Found{plan, args.workspace, number}, plan.n_ranges, k, keys, room);
    write_answer(args, plan.query(number), done, k, keys, best.count, plan.item_step);
    if (thread == 0) {  // for the next pass
        args.workspace[plan.floors + number] = 0;
        args.workspace[plan.ceilings + number] = best.count == k ? keys[k - 1] : 0;
    }
}

template <class Shape>
void scan(const TopkRowsArgs& args, const TopkPlan& plan, cudaStream_t stream) {
    launch("topk", scan_kernel<Shape>, {plan.n_tiles * plan.n_ranges, kThreads, Shape::kBytes},
           stream, args, plan);
}

void scan_by_shape(const TopkRowsArgs& args, const TopkPlan& plan, cudaStream_t stream) {
    switch (plan.tile_queries) {
        case 1: return scan<StreamShape<1>>(args, plan, stream);
        case 2: return scan<StreamShape<2>>(args, plan, stream);
        case 4: return scan<StreamShape<4>>(args, plan, stream);
        case 8: return scan<StreamShape<8>>(args, plan, stream);
        case 16: return scan<TiledShape<2>>(args, plan, stream);
        case 32: return scan<TiledShape<4>>(args, plan, stream);
        default: return scan<TiledShape<8>>(args, plan, stream);
    }
}

}  // namespace

void topk_of_all(const TopkRowsArgs& args, const TopkPlan& plan, cudaStream_t stream) {
    launch("topk", start_kernel, {(args.n_queries + kThreads - 1) / kThreads, kThreads}, stream,
           args, plan);
    const int room = BestKeys::room_for(plan.k_pass);
    for (std::int64_t done = 0; done < args.k; done += plan.k_pass) {
        scan_by_shape(args, plan, stream);
        const std::size_t bytes = static_cast<std::size_t>(room) * sizeof(CandidateKey);
        launch("topk", merge_kernel, {args.n_queries, kThreads, bytes}, stream, args, plan, done,
               room);
    }
}

}  // namespace cuda

namespace {

// So many at a time, in one workspace.
#if defined(__CUDACC__)
constexpr std::int64_t kMostQueries = 4096;
#else
constexpr std::int64_t kMostQueries = 256;  // so that small tests take every path
#endif

std::int64_t workspace_of(std::int64_t n_queries, std::int64_t n_items, std::int64_t dim,
                          std::int64_t k) {
    if (cuda::TopkTensorPlan::pays(n_queries, n_items, dim, k)) {
        return cuda::TopkTensorPlan(n_queries, n_items, dim, k).workspace;
    }
    return cuda::TopkPlan(n_queries, n_items, k).workspace;
}

void topk_of_slice(const TopkRowsArgs& args, cudaStream_t stream) {
    if (cuda::TopkTensorPlan::pays(args.n_queries, args.n_items, args.dim, args.k)) {
        cuda::topk_of_survivors(args, stream);
    } else {
        cuda::topk_of_all(args, {args.n_queries, args.n_items, args.k}, stream);
    }
}

}  // namespace

std::int64_t topk_workspace_cuda(std::int64_t n_queries, std::int64_t n_items, std::int64_t dim,
                                 std::int64_t k) {
    const auto of = [&](std::int64_t queries) { return workspace_of(queries, n_items, dim, k); };
    return std::max(of(std::min(n_queries, kMostQueries)), of(n_queries % kMostQueries));
}

void topk_cuda(const TopkRowsArgs& args, cudaStream_t stream) {
    for (std::int64_t first = 0; first < args.n_queries; first += kMostQueries) {
        TopkRowsArgs slice = args;
        slice.n_queries = std::min(kMostQueries, args.n_queries - first);
        slice.queries += first * args.dim;
        slice.scores += first * args.k;
        slice.ids += first * args.k;
        if (args.exclude_offsets != nullptr) {
            slice.exclude_offsets += first;
        }
        if (args.allowed != nullptr) {
            slice.allowed += first * args.allowed_stride;
        }
        topk_of_slice(slice, stream);
    }
}

}  // namespace seqrec_fast
