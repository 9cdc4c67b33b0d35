// Which items survive, see topk_survivors.h.
// Bound: tensor cores, and the comparison of their sums, which never leave registers.
#include "cuda/launch.h"
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

}  // namespace

void sift_items(const SurvivorArgs& args, cudaStream_t stream) {
    launch("topk", sift_kernel,
           {args.plan.n_tiles * args.plan.n_ranges, kTopkThreads,
            ItemStream::kBuffers * ItemStream::kBufferBytes},
           stream, args);
}

}  // namespace cuda
}  // namespace seqrec_fast
