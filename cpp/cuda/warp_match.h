// Lanes of a warp that have the same key.
#pragma once

#include "cells/target_macros.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

// One bit per lane, set for those whose key is that of this lane.
SEQREC_FN unsigned warp_match(int key) {
#if defined(__CUDACC__)
    return __match_any_sync(kAllLanes, key);
#else
    unsigned result = 0;
    const unsigned char* const all = simt::exchange(kAllLanes, &key, sizeof key);
    for (int lane = 0; lane < kWarp; ++lane) {
        int other;
        std::memcpy(&other, all + lane * 16, sizeof other);
        result |= other == key ? 1U << lane : 0U;
    }
    return result;
#endif
}

// The same, of the lanes before this one.
SEQREC_FN unsigned lanes_before(unsigned lanes) {
    return lanes & ((1U << lane_index()) - 1);
}

}  // namespace cuda
}  // namespace seqrec_fast
