// What the current GPU has, for the choice of a kernel's shape.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

#if defined(__CUDACC__)
inline std::int64_t device_attribute(cudaDeviceAttr attribute) {
    int device = 0, value = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&value, attribute, device) != cudaSuccess) {
        cudaGetLastError();  // what is wrong with the device, the launch will tell
        return 0;
    }
    return value;
}
inline std::int64_t multiprocessors() {
    return device_attribute(cudaDevAttrMultiProcessorCount);
}
// Shared memory that a block can ask for.
inline std::size_t most_shared_bytes() {
    return static_cast<std::size_t>(device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}
// Blocks of the largest cluster that every GPU with clusters can start; 1: it has none.
inline std::int64_t most_cluster_blocks() {
    return device_attribute(cudaDevAttrClusterLaunch) != 0 ? 8 : 1;
}
#else
// Few, so that small tests take every path.
inline std::int64_t multiprocessors() {
    return 2;
}
inline std::size_t most_shared_bytes() {
    return std::size_t{64} << 10;
}
inline std::int64_t most_cluster_blocks() {
    return 4;
}
#endif

}  // namespace cuda
}  // namespace seqrec_fast
