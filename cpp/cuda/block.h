// What the threads of a block find together. Sums have one order, so results do not change from run
// to run.
#pragma once

#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

// Of 32 kWarps_ threads, all of which get the result; `shared` (kWarps_) is free again afterwards.
template <int kWarps_, class T>
SEQREC_FN T block_sum(T value, T* shared) {
    value = warp_sum(value);
    if (lane_index() == 0) {
        shared[threadIdx.x / kWarp] = value;
    }
    __syncthreads();
    T sum = 0;
    for (int i = 0; i < kWarps_; ++i) {
        sum += shared[i];
    }
    __syncthreads();
    return sum;
}

// The largest that is not NaN, if thread 0 gives one that is not.
template <int kWarps_, class T>
SEQREC_FN T block_max(T value, T* shared) {
    value = warp_max(value);
    if (lane_index() == 0) {
        shared[threadIdx.x / kWarp] = value;
    }
    __syncthreads();
    T largest = shared[0];
    for (int i = 1; i < kWarps_; ++i) {
        largest = shared[i] > largest ? shared[i] : largest;
    }
    __syncthreads();
    return largest;
}

}  // namespace cuda
}  // namespace seqrec_fast
