// Queries and items as tensor cores take them, with what error bounds are made of.
// Bound: the reading of items, once.
#include "cuda/launch.h"
#include "cuda/topk_bounds.h"
#include "cuda/topk_survivors.h"
#include "cuda/unroll.h"

namespace seqrec_fast {
namespace cuda {
namespace {

// A warp to a row.
__global__ void __launch_bounds__(kTopkThreads)
    sample_kernel(TopkRowsArgs args, TopkTensorPlan plan) {
    const std::int64_t number = warp_index();
    if (number >= plan.n_sampled) {
        return;
    }
    const float* const from = args.items + number * plan.step * args.dim;
    float* const to = plan.at<float>(args, plan.sampled_items) + number * args.dim;
    for (std::int64_t i = lane_index(); i < args.dim; i += kWarp) {
        to[i] = from[i];
    }
    if (args.bias != nullptr && lane_index() == 0) {
        plan.at<float>(args, plan.sampled_bias)[number] = args.bias[number * plan.step];
    }
}

// A warp to 16 queries; a lane has 8 terms of two of them.
template <int N>
__global__ void __launch_bounds__(kTopkThreads)
    pack_queries_kernel(TopkRowsArgs args, TopkTensorPlan plan) {
    const std::int64_t group = warp_index();
    if (group == 0 && lane_index() == 0) {
        *plan.at<CandidateKey>(args, plan.lost) = 0;
    }
    if (group >= plan.n_tiles * (kTensorQueries / 16)) {
        return;
    }
    const std::int64_t tile = group / (kTensorQueries / 16), place = group % (kTensorQueries / 16);
    const int lane = lane_index();
    RowSquares squares[2];
    const float* rows[2];
    SEQREC_UNROLL
    for (int h = 0; h < 2; ++h) {
        const std::int64_t query = group * 16 + h * 8 + lane / 4;
        rows[h] = query < args.n_queries ? args.queries + query * args.dim : nullptr;
    }
    auto* const packed = plan.at<FragmentA>(args, plan.queries);
    SEQREC_NO_UNROLL
    for (std::int64_t pair = 0; pair < plan.pairs; ++pair) {
        const std::int64_t at = pair * kPairTerms + lane % 4 * 8;
        const RoundedTerms low = squares[0].round<N>(rows[0], at, args.dim);
        const RoundedTerms high = squares[1].round<N>(rows[1], at, args.dim);
        FragmentA* const to =
            packed + (((tile * plan.pairs + pair) * (kTensorQueries / 16) + place) * 2) * kWarp;
        SEQREC_UNROLL
        for (int half = 0; half < 2; ++half) {
            to[half * kWarp + lane] = {{low.pairs[2 * half], high.pairs[2 * half],
                                        low.pairs[2 * half + 1], high.pairs[2 * half + 1]}};
        }
    }
    SEQREC_UNROLL
    for (int h = 0; h < 2; ++h) {
        squares[h].add_lanes();
        const bool bounded = squares[h].values <= kMostSquare;
        const float norm = norm_of(squares[h].values, args.dim);
        const float residual = norm_of(squares[h].residuals, args.dim);
        QueryBound bound{0, 0, QueryBound::found};
        if (bounded) {
            // |q'| is at most 1 + 2^-8 times |q|
            bound = {residual + rounding_share(args.dim) * norm, 1.004f * norm, QueryBound::no};
        }
        if (lane % 4 == 0) {
            plan.at<QueryBound>(args, plan.bounds)[group * 16 + h * 8 + lane / 4] = bound;
        }
    }
}

// A warp to 8 items; a lane has 8 terms of one of them.
template <int N>
__global__ void __launch_bounds__(kTopkThreads)
    pack_items_kernel(TopkRowsArgs args, TopkTensorPlan plan, TensorStep step) {
    constexpr int kGroups = kTensorItems / kBoundItems;
    const std::int64_t group = warp_index(), tile = group / kGroups;
    if (tile >= step.tiles) {
        return;
    }
    const int place = static_cast<int>(group % kGroups), lane = lane_index();
    const std::int64_t item = plan.item(step.first_tile + tile, place * kBoundItems + lane / 4);
    const bool exists = item < args.n_items;
    const float* const row = exists ? args.items + item * args.dim : nullptr;
    unsigned char* const packed =
        plan.at<unsigned char>(args, plan.slab) + tile * plan.tile_bytes();
    RowSquares squares;
    SEQREC_NO_UNROLL
    for (std::int64_t pair = 0; pair < plan.pairs; ++pair) {
        const std::int64_t at = pair * kPairTerms + lane % 4 * 8;
        const RoundedTerms terms = squares.round<N>(row, at, args.dim);
        reinterpret_cast<FragmentA*>(packed)[(pair * kGroups + place) * kWarp + lane] = {
            {terms.pairs[0], terms.pairs[1], terms.pairs[2], terms.pairs[3]}};
    }
    squares.add_lanes();
    float bias = exists && args.bias != nullptr ? args.bias[item] : 0.0f;
    ItemBound bound{norm_of(squares.values, args.dim), norm_of(squares.residuals, args.dim)};
    const bool never = !exists || squares.values != squares.values;
    if (never) {
        bound = {0, 0};
        bias = -std::numeric_limits<float>::infinity();
    } else if (!(squares.values <= kMostSquare) ||
               (std::fabs(bias) > kMostBias && bias != -std::numeric_limits<float>::infinity())) {
        bound = {std::numeric_limits<float>::infinity(), 0};
        bias = 0;
    }
    SEQREC_UNROLL
    for (int bits = 4; bits < kWarp; bits *= 2) {
        const float norm = __shfl_xor_sync(kAllLanes, bound.norm, bits);
        const float residual = __shfl_xor_sync(kAllLanes, bound.residual, bits);
        bound = {norm > bound.norm ? norm : bound.norm,
                 residual > bound.residual ? residual : bound.residual};
    }
    auto* const head =
        reinterpret_cast<float*>(packed + plan.tile_bytes() - TopkTensorPlan::kHeadBytes);
    if (lane % 4 == 0) {
        head[place * kBoundItems + lane / 4] = raised(bias, args.dim);
    }
    if (lane == 0) {
        reinterpret_cast<ItemBound*>(head + kTensorItems)[place] = bound;
    }
}

std::int64_t blocks_for_warps(std::int64_t warps) {
    constexpr std::int64_t kWarps = kTopkThreads / kWarp;
    return (warps + kWarps - 1) / kWarps;
}

}  // namespace

void sample_items(const TopkRowsArgs& args, const TopkTensorPlan& plan, cudaStream_t stream) {
    launch("topk", sample_kernel, {blocks_for_warps(plan.n_sampled), kTopkThreads}, stream, args,
           plan);
}

void pack_queries(const TopkRowsArgs& args, const TopkTensorPlan& plan, cudaStream_t stream) {
    const std::int64_t blocks = blocks_for_warps(plan.n_tiles * (kTensorQueries / 16));
    with_row_vectors<float>(args.dim, {args.queries}, [&](auto n) {
        launch("topk", pack_queries_kernel<n()>, {blocks, kTopkThreads}, stream, args, plan);
    });
}

void pack_items(const TopkRowsArgs& args, const TopkTensorPlan& plan, const TensorStep& step,
                cudaStream_t stream) {
    const std::int64_t blocks = blocks_for_warps(step.tiles * (kTensorItems / kBoundItems));
    with_row_vectors<float>(args.dim, {args.items}, [&](auto n) {
        launch("topk", pack_items_kernel<n()>, {blocks, kTopkThreads}, stream, args, plan, step);
    });
}

}  // namespace cuda
}  // namespace seqrec_fast
