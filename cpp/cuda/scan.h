// Running sums over the threads of a block, and searches by a warp.
#pragma once

#include <cstdint>

#include "cells/target_macros.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

struct BlockSum {
    std::int64_t before;  // what the threads before this one gave
    std::int64_t total;
};

// Every thread of the block takes part.
template <unsigned kThreads>
SEQREC_FN BlockSum block_sum(std::int64_t value) {
    constexpr unsigned kWarps = kThreads / kWarp;
    SEQREC_SHARED std::int64_t warps[kWarps];
    std::int64_t up_to_here = value;
    for (int delta = 1; delta < kWarp; delta *= 2) {
        const std::int64_t other =
            __shfl_up_sync(kAllLanes, up_to_here, static_cast<unsigned>(delta));
        up_to_here += lane_index() >= delta ? other : 0;
    }
    const unsigned mine = threadIdx.x / kWarp;
    if (lane_index() == kWarp - 1) {
        warps[mine] = up_to_here;
    }
    __syncthreads();
    BlockSum sum{up_to_here - value, 0};
    for (unsigned w = 0; w < kWarps; ++w) {
        sum.before += w < mine ? warps[w] : 0;
        sum.total += warps[w];
    }
    __syncthreads();  // before the next call writes
    return sum;
}

// How many of the offsets 0 to n - 1, which never decrease, are at most x.
SEQREC_FN std::int64_t count_up_to(const std::int64_t* offsets, std::int64_t n, std::int64_t x) {
    std::int64_t low = 0;
    while (n > 0) {
        const std::int64_t half = n / 2;
        const bool beyond = offsets[low + half] > x;
        low = beyond ? low : low + half + 1;
        n = beyond ? half : n - half - 1;
    }
    return low;
}

// How many of f(0) to f(n - 1), which never decrease, are at most x. All lanes ask for the same.
template <class F>
SEQREC_FN std::int64_t warp_count_up_to(std::int64_t n, std::int64_t x, const F& f) {
    std::int64_t low = 0, high = n;
    while (low < high) {
        const std::int64_t step = (high - low + kWarp - 1) / kWarp;
        const std::int64_t at = low + lane_index() * step;
        const int hits = __popc(__ballot_sync(kAllLanes, at < high && f(at) <= x));
        const std::int64_t first_beyond = low + hits * step;
        low = hits == 0 ? low : first_beyond - step + 1;
        high = first_beyond < high ? first_beyond : high;
    }
    return low;
}

}  // namespace cuda
}  // namespace seqrec_fast
