// Exact top-k for many queries on a GPU, see topk_survivors.h.
// Bound: tensor cores, and the comparison of their sums, which never leave registers.
#include "cuda/launch.h"
#include "cuda/topk_best.h"
#include "cuda/topk_bounds.h"
#include "cuda/topk_candidates.h"
#include "cuda/topk_item_stream.h"
#include "cuda/topk_survivors.h"

namespace seqrec_fast {
namespace cuda {
namespace {

// Warps stand in 4 groups of queries and 2 of items.
constexpr int kQueryWarps = 4, kItemWarps = 2;
constexpr int kWarpRows = kTensorQueries / kQueryWarps / 16;           // products of 16 queries
constexpr int kWarpColumns = kTensorItems / kItemWarps / kBoundItems;  // and of 8 items

struct SurvivorArgs {
    TopkRowsArgs topk;
    TopkTensorPlan plan;
    TensorStep step;

    // Of a query's row in the lists of a range.
    SEQREC_FN std::int64_t list(std::int64_t range, std::int64_t query) const {
        return range * plan.n_tiles * kTensorQueries + query;
    }
};

// What a lane compares sums with: it has rows q and q + 8 of the products, columns 2 t and 2 t + 1.
class Rejection {
  public:
    SEQREC_FN Rejection(const SurvivorArgs& args, std::int64_t first_query, int* counts)
        : args_(args), first_query_(first_query), counts_(counts) {
        SEQREC_UNROLL
        for (int r = 0; r < kWarpRows * 2; ++r) {
            const std::int64_t query = first_query + row(r);
            const QueryBound bound = args.plan.at<QueryBound>(args.topk, args.plan.bounds)[query];
            norm_share_[r] = bound.norm_share;
            residual_share_[r] = bound.residual_share;
            floor_[r] = std::numeric_limits<float>::infinity();
            if (query < args.topk.n_queries && bound.lost == QueryBound::no) {
                const std::int64_t last = (query + 1) * args.topk.k - 1;
                floor_[r] = args.topk.ids[last] < 0 ? -std::numeric_limits<float>::infinity()
                                                    : args.topk.scores[last] - kLeast;
            }
        }
    }

    // `head` of the tile that the sums are of. NaN is never below.
    SEQREC_FN void sift(const float (&sums)[kWarpRows][kWarpColumns][4], const float* head,
                        std::int64_t tile) {
        const int lane = lane_index(), first = item_warp() * kWarpColumns;
        unsigned hits[kWarpRows] = {};
        SEQREC_UNROLL
        for (int n = 0; n < kWarpColumns; ++n) {
            const auto bias =
                RowVector<float, 2>::load(head + (first + n) * kBoundItems + lane % 4 * 2);
            const ItemBound bound =
                reinterpret_cast<const ItemBound*>(head + kTensorItems)[first + n];
            SEQREC_UNROLL
            for (int m = 0; m < kWarpRows; ++m) {
                SEQREC_UNROLL
                for (int i = 0; i < 4; ++i) {
                    const int r = m * 2 + i / 2;
                    const float least = std::fma(-residual_share_[r], bound.residual,
                                                 std::fma(-norm_share_[r], bound.norm, floor_[r]));
                    if (!(sums[m][n][i] + bias.values[i % 2] < least)) {
                        hits[m] |= 1U << (n * 4 + i);
                    }
                }
            }
        }
        unsigned any = 0;
        SEQREC_UNROLL
        for (int m = 0; m < kWarpRows; ++m) {
            any |= hits[m];
        }
        if (any != 0) {
            keep(hits, tile);
        }
    }

  private:
    static SEQREC_FN int item_warp() { return static_cast<int>(threadIdx.x) / kWarp / kQueryWarps; }
    static SEQREC_FN int row(int r) {
        const int warp = static_cast<int>(threadIdx.x) / kWarp % kQueryWarps;
        return warp * kWarpRows * 16 + r * 8 + lane_index() / 4;
    }

    SEQREC_FN void keep(const unsigned (&hits)[kWarpRows], std::int64_t tile) {
        SEQREC_NO_UNROLL
        for (int m = 0; m < kWarpRows; ++m) {
            unsigned left = 0;
            SEQREC_UNROLL
            for (int i = 0; i < kWarpRows; ++i) {
                left = i == m ? hits[i] : left;
            }
            for (; left != 0; left &= left - 1) {
                const int bit = __ffs(left) - 1;
                const int column = (item_warp() * kWarpColumns + bit / 4) * kBoundItems +
                                   lane_index() % 4 * 2 + bit % 2;
                add(row(m * 2 + bit % 4 / 2),
                    args_.plan.item(args_.step.first_tile + tile, column));
            }
        }
        // Nothing more of queries that have too many.
        SEQREC_UNROLL
        for (int r = 0; r < kWarpRows * 2; ++r) {
            if (counts_[row(r)] > args_.plan.capacity) {
                floor_[r] = std::numeric_limits<float>::infinity();
            }
        }
    }
    SEQREC_FN void add(int row, std::int64_t item) {
        const std::int64_t query = first_query_ + row;
        if (query >= args_.topk.n_queries || item >= args_.topk.n_items ||
            !may_have(args_.topk, query, item)) {
            return;
        }
        const int place = atomicAdd(counts_ + row, 1);
        if (place < args_.plan.capacity) {
            const std::int64_t list = args_.list(blockIdx.x / args_.plan.n_tiles, query);
            args_.plan.at<std::uint32_t>(args_.topk,
                                         args_.plan.lists)[list * args_.plan.capacity + place] =
                static_cast<std::uint32_t>(item);
        }
    }

    const SurvivorArgs& args_;
    std::int64_t first_query_;
    int* counts_;
    float floor_[kWarpRows * 2], norm_share_[kWarpRows * 2], residual_share_[kWarpRows * 2];
};

__global__ void __launch_bounds__(kTopkThreads, kBlocksAtOnce) sift_kernel(SurvivorArgs args) {
    SEQREC_DYNAMIC_SHARED(unsigned char, buffers);
    SEQREC_SHARED int counts[kTensorQueries];
    const TopkTensorPlan& plan = args.plan;
    // Tiles of queries that read the same items run together, so that these come from L2.
    const std::int64_t range = blockIdx.x / plan.n_tiles, query_tile = blockIdx.x % plan.n_tiles;
    const int thread = static_cast<int>(threadIdx.x), warp = thread / kWarp, lane = lane_index();
    const int query_warp = warp % kQueryWarps, item_warp = warp / kQueryWarps;
    const int pairs = static_cast<int>(plan.pairs), tiles = static_cast<int>(args.step.tiles);
    if (thread < kTensorQueries) {
        counts[thread] = 0;
    }
    __syncthreads();
    Rejection rejection(args, query_tile * kTensorQueries, counts);
    const FragmentA* const queries = plan.at<FragmentA>(args.topk, plan.queries) +
                                     query_tile * pairs * (kTensorQueries / 16 * 2 * kWarp) +
                                     query_warp * kWarpRows * 2 * kWarp + lane;
    const int step = static_cast<int>(plan.n_ranges), first = static_cast<int>(range);
    ItemStream stream(plan.at<unsigned char>(args.topk, plan.slab), pairs, first, step, tiles,
                      buffers);
    SEQREC_NO_UNROLL
    for (int tile = first; tile < tiles; tile += step) {
        float sums[kWarpRows][kWarpColumns][4] = {};
        SEQREC_NO_UNROLL
        for (int pair = 0; pair < pairs;) {
            const unsigned char* part = stream.next();
            const int end = pairs - pair < kPairsOfPart ? pairs : pair + kPairsOfPart;
            SEQREC_NO_UNROLL
            for (; pair < end; ++pair, part += ItemStream::kPairBytes) {
                FragmentA left[kWarpRows][2];
                SEQREC_UNROLL
                for (int m = 0; m < kWarpRows; ++m) {
                    SEQREC_UNROLL
                    for (int half = 0; half < 2; ++half) {
                        left[m][half] =
                            queries[(pair * (kTensorQueries / 16 * 2) + m * 2 + half) * kWarp];
                    }
                }
                const auto* const items = reinterpret_cast<const FragmentA*>(part) +
                                          item_warp * kWarpColumns * kWarp + lane;
                SEQREC_UNROLL
                for (int n = 0; n < kWarpColumns; ++n) {
                    const FragmentA terms = items[n * kWarp];
                    const FragmentB right[2] = {{{terms.a[0], terms.a[1]}},
                                                {{terms.a[2], terms.a[3]}}};
                    SEQREC_UNROLL
                    for (int half = 0; half < 2; ++half) {
                        SEQREC_UNROLL
                        for (int m = 0; m < kWarpRows; ++m) {
                            multiply_bfloat16(left[m][half], right[half], sums[m][n]);
                        }
                    }
                }
            }
            if (pair == pairs) {
                rejection.sift(sums, reinterpret_cast<const float*>(part), tile);
            }
        }
    }
    __syncthreads();
    if (thread < kTensorQueries) {
        const std::int64_t list = args.list(range, query_tile * kTensorQueries + thread);
        plan.at<int>(args.topk, plan.counts)[list] = counts[thread];
    }
}

// The survivors of a query, as keys of their scores.
template <int N>
struct Survivors {
    static constexpr bool kSorted = false;

    SEQREC_FN std::int64_t count(std::int64_t range) const {
        return args.plan.at<int>(args.topk, args.plan.counts)[args.list(range, query)];
    }
    SEQREC_FN CandidateKey key(std::int64_t range, std::int64_t i) const {
        const std::uint32_t item = args.plan.at<std::uint32_t>(
            args.topk, args.plan.lists)[args.list(range, query) * args.plan.capacity + i];
        const float bias = args.topk.bias == nullptr ? 0.0f : args.topk.bias[item];
        const float score = score_of(args.topk.items + item * args.topk.dim) + bias;
        return score == score ? candidate_key(score, item) : 0;
    }
    // The chain of row_tiles.h. A thread reads 128 bytes of its item before it uses the first.
    SEQREC_FN float score_of(const float* item) const {
        constexpr int kAhead = 8;
        using Part = RowVector<float, N>;
        const float* const row = args.topk.queries + query * args.topk.dim;
        const std::int64_t dim = args.topk.dim;
        float sum = 0;
        SEQREC_NO_UNROLL
        for (std::int64_t at = 0; at < dim; at += kAhead * N) {
            Part parts[kAhead];
            SEQREC_UNROLL
            for (int i = 0; i < kAhead; ++i) {
                parts[i] = at + i * N < dim ? Part::load(item + at + i * N) : Part{};
            }
            SEQREC_UNROLL
            for (int i = 0; i < kAhead; ++i) {
                if (at + i * N < dim) {
                    const Part left = Part::load(row + at + i * N);
                    SEQREC_UNROLL
                    for (int j = 0; j < N; ++j) {
                        sum = std::fma(left.values[j], parts[i].values[j], sum);
                    }
                }
            }
        }
        return sum;
    }

    const SurvivorArgs& args;
    std::int64_t query;
};

// A block to a query: the best of its answer so far and its survivors. Queries with too many become
// lost.
template <int N>
__global__ void __launch_bounds__(kTopkThreads) rank_kernel(SurvivorArgs args, int room) {
    SEQREC_DYNAMIC_SHARED(CandidateKey, keys);
    SEQREC_SHARED BestKeys best;
    SEQREC_SHARED int too_many;
    const std::int64_t query = blockIdx.x, dim = args.topk.dim;
    const int thread = static_cast<int>(threadIdx.x), k = static_cast<int>(args.topk.k);
    QueryBound* const bound = args.plan.at<QueryBound>(args.topk, args.plan.bounds) + query;
    const Survivors<N> survivors{args, query};
    const auto lost = bound->lost;
    if (lost == QueryBound::asked_again) {
        return;
    }
    if (thread == 0) {
        best = {0, 0, answer_key(args.topk, query, k - 1)};
        too_many = lost == QueryBound::found ? 1 : 0;
    }
    __syncthreads();
    for (std::int64_t range = thread; range < args.plan.n_ranges; range += kTopkThreads) {
        if (survivors.count(range) > args.plan.capacity) {
            atomicAdd(&too_many, 1);
        }
    }
    for (int i = thread; i < k; i += kTopkThreads) {
        keys[i] = answer_key(args.topk, query, i);
        if (keys[i] != 0) {
            atomicAdd(&best.count, 1);
        }
    }
    __syncthreads();
    if (too_many == 0) {
        best.add(survivors, args.plan.n_ranges, k, keys, room);
        write_answer(args.topk, query, 0, k, keys, best.count, 1);
        return;
    }
    SEQREC_SHARED CandidateKey number;
    if (thread == 0) {
        CandidateKey* const asked = args.plan.at<CandidateKey>(args.topk, args.plan.lost);
        number = atomicAdd(asked, CandidateKey{1});
        asked[1 + number] = static_cast<CandidateKey>(query);
        bound->lost = QueryBound::asked_again;
    }
    __syncthreads();
    float* const row = args.plan.at<float>(args.topk, args.plan.lost_queries) +
                       static_cast<std::int64_t>(number) * dim;
    for (std::int64_t i = thread; i < dim; i += kTopkThreads) {
        row[i] = args.topk.queries[query * dim + i];
    }
}

void sift(const SurvivorArgs& args, cudaStream_t stream) {
    launch("topk", sift_kernel,
           {args.plan.n_tiles * args.plan.n_ranges, kTopkThreads,
            ItemStream::kBuffers * ItemStream::kBufferBytes},
           stream, args);
}

void rank(const SurvivorArgs& args, cudaStream_t stream) {
    const TopkRowsArgs& topk = args.topk;
    const int room = BestKeys::room_for(topk.k);
    const std::size_t bytes = static_cast<std::size_t>(room) * sizeof(CandidateKey);
    with_row_vectors<float>(topk.dim, {topk.queries, topk.items}, [&](auto n) {
        launch("topk", rank_kernel<n()>, {topk.n_queries, kTopkThreads, bytes}, stream, args, room);
    });
}

}  // namespace

void topk_of_survivors(const TopkRowsArgs& args, cudaStream_t stream) {
    const TopkTensorPlan plan(args.n_queries, args.n_items, args.dim, args.k);
    const auto area = [&](std::int64_t place) {
        return reinterpret_cast<float*>(args.workspace + place);
    };
    sample_items(args, plan, stream);
    TopkRowsArgs sampled = args;
    sampled.items = area(plan.sampled_items);
    sampled.bias = args.bias == nullptr ? nullptr : area(plan.sampled_bias);
    sampled.n_items = plan.n_sampled;
    TopkPlan of_sampled(args.n_queries, plan.n_sampled, args.k);
    of_sampled.item_step = plan.step;
    topk_of_all(sampled, of_sampled, stream);

    pack_queries(args, plan, stream);
    for (std::int64_t seen = plan.class_tiles; seen < plan.class_tiles * plan.step;) {
        std::int64_t end = plan.class_tiles;
        while (end <= seen) {
            end *= TopkTensorPlan::kGrowth;
        }
        const TensorStep step{seen, std::min(end - seen, plan.slab_tiles)};
        pack_items(args, plan, step, stream);
        sift({args, plan, step}, stream);
        rank({args, plan, step}, stream);
        seen += step.tiles;
    }

    TopkRowsArgs again = args;
    again.queries = area(plan.lost_queries);
    TopkPlan of_lost(args.n_queries, args.n_items, args.k);
    of_lost.asked = args.workspace + plan.lost;
    topk_of_all(again, of_lost, stream);
}

}  // namespace cuda
}  // namespace seqrec_fast
