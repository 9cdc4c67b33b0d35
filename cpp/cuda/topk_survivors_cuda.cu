// Exact top-k for many queries on a GPU, see topk_survivors.h.
// Bound: the gathering of survivors, 1 to 2 thousand rows of a query at k = 100.
#include "cuda/launch.h"
#include "cuda/row_vectors.h"
#include "cuda/topk_best.h"
#include "cuda/topk_survivors.h"
#include "cuda/unroll.h"

namespace seqrec_fast {
namespace cuda {
namespace {

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
        const float* const row = args.topk.queries + query * args.topk.dim;
        const std::int64_t dim = args.topk.dim;
        float sum = 0;
        std::int64_t at = 0;
        SEQREC_NO_UNROLL
        for (; at + kAhead * N <= dim; at += kAhead * N) {
            add<kAhead>(row + at, item + at, sum);
        }
        SEQREC_NO_UNROLL
        for (; at < dim; at += N) {
            add<1>(row + at, item + at, sum);
        }
        return sum;
    }

    template <int kParts>
    static SEQREC_FN void add(const float* row, const float* item, float& sum) {
        using Part = RowVector<float, N>;
        Part parts[kParts];
        SEQREC_UNROLL
        for (int i = 0; i < kParts; ++i) {
            parts[i] = Part::load(item + i * N);
        }
        SEQREC_UNROLL
        for (int i = 0; i < kParts; ++i) {
            const Part left = Part::load(row + i * N);
            SEQREC_UNROLL
            for (int j = 0; j < N; ++j) {
                sum = std::fma(left.values[j], parts[i].values[j], sum);
            }
        }
    }

    const SurvivorArgs& args;
    std::int64_t query;
};

// A block to a query: the best of its answer so far and its survivors. Queries with too many become
// lost.
template <int N>
__global__ void __launch_bounds__(kTopkThreads, 3) rank_kernel(SurvivorArgs args, int room) {
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
        sift_items({args, plan, step}, stream);
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
