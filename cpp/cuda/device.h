// What the host asks of the device that is current.
#pragma once

#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

inline int multiprocessors() {
#if defined(__CUDACC__)
    int device = 0, count = 0;
    if (cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) == cudaSuccess &&
        count > 0) {
        return count;
    }
    return 1;
#else
    return 2;  // few, and still more than one
#endif
}

}  // namespace cuda
}  // namespace seqrec_fast
