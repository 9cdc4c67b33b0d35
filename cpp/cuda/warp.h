// What the 32 threads of a warp do together. Sums have one order, so results do not change from
// run to run.
#pragma once

#include "cells/target_macros.h"
#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

SEQREC_FN int lane_index() {
    return static_cast<int>(threadIdx.x) % kWarp;
}

// Of all threads, which warp this is; one-dimensional launches.
SEQREC_FN long long warp_index() {
    return (static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
}

template <class T>
SEQREC_FN T warp_sum(T value) {
    for (int bits = kWarp / 2; bits > 0; bits /= 2) {
        value += __shfl_xor_sync(kAllLanes, value, bits);
    }
    return value;
}

// NaN of a lane is passed over.
template <class T>
SEQREC_FN T warp_max(T value) {
    for (int bits = kWarp / 2; bits > 0; bits /= 2) {
        const T other = __shfl_xor_sync(kAllLanes, value, bits);
        value = other > value ? other : value;
    }
    return value;
}

// A value and where it stands; place -1: none.
template <class T>
struct Placed {
    T value;
    int place;

    // Larger, or equal at a smaller place; anything is before none.
    SEQREC_FN bool before(const Placed& other) const {
        if (place < 0 || other.place < 0) {
            return place >= 0;
        }
        return value > other.value || (value == other.value && place < other.place);
    }
};

template <class T>
SEQREC_FN Placed<T> warp_first(Placed<T> mine) {
    for (int bits = kWarp / 2; bits > 0; bits /= 2) {
        const Placed<T> other{__shfl_xor_sync(kAllLanes, mine.value, bits),
                              __shfl_xor_sync(kAllLanes, mine.place, bits)};
        mine = other.before(mine) ? other : mine;
    }
    return mine;
}

}  // namespace cuda
}  // namespace seqrec_fast
