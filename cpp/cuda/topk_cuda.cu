// Exact top-k of q . item + bias on a GPU.
//
// A block scores a range of items for a tile of queries. Scores live in registers only: each is
// compared with its query's floor, the k-th best that any block has found so far, and the few that
// reach it go to a reservoir. A second kernel merges the reservoirs of the ranges. Floors depend on
// which block is first, the answer does not: it is the best k by keys that are unique.
// Bound: few queries, memory bandwidth; many, float32 arithmetic.
#include "cuda/launch.h"
#include "cuda/topk_candidates.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256, kWarps = kThreads / kWarp;

__global__ void __launch_bounds__(kThreads) start_kernel(TopkRowsArgs args, TopkPlan plan) {
    const std::int64_t query = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (query < args.n_queries) {
        args.workspace[plan.floors + query] = 0;
        args.workspace[plan.ceilings + query] = ~CandidateKey{0};
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
    scan_kernel(TopkRowsArgs args, TopkPlan plan) {
    SEQREC_DYNAMIC_SHARED(float, parts);
    SEQREC_SHARED Reservoirs<Shape::kRows> reservoirs;
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

// What merges the reservoirs of a query, which are in order: a warp reads 32 keys of one at a time,
// up to the first that is below the floor.
struct Merged {
    int count, busy;
    CandidateKey floor;
};

__global__ void __launch_bounds__(kThreads)
    merge_kernel(TopkRowsArgs args, TopkPlan plan, std::int64_t done, int room) {
    SEQREC_DYNAMIC_SHARED(CandidateKey, keys);  // `room`, a power of two
    SEQREC_SHARED Merged merged;
    const std::int64_t query = blockIdx.x, tile = query / plan.tile_queries;
    const std::int64_t row = query % plan.tile_queries;
    const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp;
    const int k = static_cast<int>(plan.k_pass);
    if (thread == 0) {
        merged = {0, 0, args.workspace[plan.floors + query]};
    }
    __syncthreads();
    std::int64_t range = warp, first = 0;
    for (bool more = true; more;) {
        const CandidateKey floor = merged.floor;
        CandidateKey key = 0;
        if (range < plan.n_ranges) {
            const std::int64_t place = (range * plan.n_tiles + tile) * plan.tile_queries + row;
            const auto n = static_cast<std::int64_t>(args.workspace[plan.counts + place]);
            const std::int64_t at = first + lane_index();
            key = at < n ? args.workspace[place * plan.capacity + at] : 0;
            key = key >= floor ? key : 0;
        }
        if (key != 0) {
            keys[atomicAdd(&merged.count, 1)] = key;
        }
        if (__all_sync(kAllLanes, key != 0)) {
            first += kWarp;
        } else {
            range += kWarps;
            first = 0;
        }
        if (lane_index() == 0 && range < plan.n_ranges) {
            atomicAdd(&merged.busy, 1);
        }
        __syncthreads();
        more = merged.busy > 0;
        const int n = merged.count;
        const bool full = n + kThreads > room;
        if (!more || full) {
            const int size = power_of_two_for(n);
            for (int i = n + thread; i < size; i += kThreads) {
                keys[i] = 0;
            }
            __syncthreads();
            sort_keys(keys, size, thread, kThreads, [] { __syncthreads(); });
        }
        __syncthreads();
        if (thread == 0) {
            merged.busy = 0;
            if (!more || full) {
                merged.count = n < k ? n : k;
            }
            if (full && keys[k - 1] > floor) {
                merged.floor = keys[k - 1];
            }
        }
        __syncthreads();
    }
    const std::int64_t left = args.k - done;
    const int n = merged.count;
    for (int i = thread; i < k && i < left; i += kThreads) {
        const std::int64_t to = query * args.k + done + i;
        args.scores[to] =
            i < n ? candidate_score(keys[i]) : -std::numeric_limits<float>::infinity();
        args.ids[to] = i < n ? static_cast<std::int64_t>(candidate_id(keys[i])) : -1;
    }
    if (thread == 0) {  // for the next pass
        args.workspace[plan.floors + query] = 0;
        args.workspace[plan.ceilings + query] = n == k ? keys[k - 1] : 0;
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
}  // namespace cuda

namespace {

// So many at a time, in one workspace.
constexpr std::int64_t kMostQueries = 4096;

void topk_of_slice(const TopkRowsArgs& args, cudaStream_t stream) {
    const cuda::TopkPlan plan(args.n_queries, args.n_items, args.k);
    cuda::launch("topk", cuda::start_kernel,
                 {(args.n_queries + cuda::kThreads - 1) / cuda::kThreads, cuda::kThreads}, stream,
                 args, plan);
    int room = 64;
    while (room < static_cast<int>(plan.k_pass) + cuda::kThreads) {
        room *= 2;
    }
    for (std::int64_t done = 0; done < args.k; done += plan.k_pass) {
        cuda::scan_by_shape(args, plan, stream);
        const std::size_t bytes = static_cast<std::size_t>(room) * sizeof(cuda::CandidateKey);
        cuda::launch("topk", cuda::merge_kernel, {args.n_queries, cuda::kThreads, bytes}, stream,
                     args, plan, done, room);
    }
}

}  // namespace

std::int64_t topk_workspace_cuda(std::int64_t n_queries, std::int64_t n_items, std::int64_t k) {
    const auto of = [&](std::int64_t queries) {
        return cuda::TopkPlan(queries, n_items, k).workspace;
    };
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
