// Candidates of a block's queries: which items may be one, and the best of those that came.
#pragma once

#include "cells/candidate_key.h"
#include "cuda/topk_best.h"
#include "cuda/topk_kernels.h"
#include "cuda/topk_plan.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

// Whether a query may be given an item. Asked only for what would be among its best.
SEQREC_FN bool may_have(const TopkRowsArgs& args, std::int64_t query, std::int64_t item) {
    if (args.allowed != nullptr && args.allowed[query * args.allowed_stride + item] == 0) {
        return false;
    }
    if (args.exclude_offsets == nullptr) {
        return true;
    }
    std::int64_t low = args.exclude_offsets[query], high = args.exclude_offsets[query + 1];
    low = low < 0 ? 0 : low;
    const std::int64_t end = high = high > args.n_excluded ? args.n_excluded : high;
    while (low < high) {
        const std::int64_t middle = (low + high) / 2;
        if (args.excluded[middle] < item) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low >= end || args.excluded[low] != item;
}

// A reservoir of keys for each query of a tile, in global memory since few items get there; its
// floor, below which nothing matters any more, in shared memory.
template <int kQueries>
struct Reservoirs {
    float floors[kQueries];  // NaN: no such query
    int counts[kQueries];
    CandidateKey floor_keys[kQueries], ceilings[kQueries];
};

template <int kQueries>
class Candidates {
  public:
    SEQREC_FN Candidates(const TopkRowsArgs& args, const TopkPlan& plan, std::int64_t first_query,
                         Reservoirs<kQueries>& shared)
        : args_(args), plan_(plan), first_query_(first_query), shared_(shared) {}

    SEQREC_FN void clear(int thread) {
        if (thread < kQueries) {
            const std::int64_t query = first_query_ + thread;
            const bool exists = query < plan_.n_asked(args_.n_queries);
            shared_.floors[thread] = exists ? -std::numeric_limits<float>::infinity()
                                            : std::numeric_limits<float>::quiet_NaN();
            shared_.counts[thread] = 0;
            shared_.floor_keys[thread] = 0;
            shared_.ceilings[thread] = exists ? args_.workspace[plan_.ceilings + query] : 0;
        }
    }
    SEQREC_FN float floor(int row) const { return shared_.floors[row]; }
    // `score` has reached the floor.
    SEQREC_FN void offer(int row, float score, std::int64_t item) {
        const CandidateKey key = candidate_key(score, static_cast<std::uint32_t>(item));
        if (key >= shared_.floor_keys[row] && key < shared_.ceilings[row] &&
            may_have(args_, plan_.query(first_query_ + row), item * plan_.item_step)) {
            keys(row)[atomicAdd(&shared_.counts[row], 1)] = key;
        }
    }
    // What other blocks have found for the query of a thread.
    SEQREC_FN CandidateKey others_floor(int thread) const {
        const bool exists =
            thread < kQueries && first_query_ + thread < plan_.n_asked(args_.n_queries);
        return exists ? *static_cast<const volatile CandidateKey*>(global_floor(thread)) : 0;
    }
    SEQREC_FN void raise(int row, CandidateKey floor) {
        if (floor > shared_.floor_keys[row]) {
            shared_.floor_keys[row] = floor;
            shared_.floors[row] = candidate_score(floor);
        }
    }
    // By a warp: keeps the best k of a row and raises its floor. They come to lie in order.
    SEQREC_FN void cut(int row, CandidateKey* room) {
        const int n = shared_.counts[row], size = power_of_two_for(n);
        CandidateKey* const own = keys(row);
        for (int i = lane_index(); i < size; i += kWarp) {
            room[i] = i < n ? own[i] : 0;
        }
        __syncwarp();
        sort_keys(room, size, lane_index(), kWarp, [] { __syncwarp(); });
        const int k = static_cast<int>(plan_.k_pass), kept = n < k ? n : k;
        for (int i = lane_index(); i < kept; i += kWarp) {
            own[i] = room[i];
        }
        if (lane_index() == 0) {
            shared_.counts[row] = kept;
            if (kept == k) {
                raise(row, room[k - 1]);
                raise(row, atomicMax(global_floor(row), shared_.floor_keys[row]));
            }
        }
        __syncwarp();
    }
    SEQREC_FN int count(int row) const { return shared_.counts[row]; }

  private:
    SEQREC_FN std::int64_t place(int row) const {
        return static_cast<std::int64_t>(blockIdx.x) * kQueries + row;
    }
    SEQREC_FN CandidateKey* keys(int row) const {
        return args_.workspace + place(row) * plan_.capacity;
    }
    SEQREC_FN CandidateKey* global_floor(int row) const {
        return args_.workspace + plan_.floors + first_query_ + row;
    }

    const TopkRowsArgs& args_;
    const TopkPlan& plan_;
    std::int64_t first_query_;
    Reservoirs<kQueries>& shared_;
};

}  // namespace cuda
}  // namespace seqrec_fast
