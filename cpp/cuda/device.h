// What the host asks of the device that is current.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

#if defined(__CUDACC__)

// 0 if it cannot be had: what is wrong with the device, the launch will tell.
inline int device_attribute(cudaDeviceAttr attribute) {
    int device = 0, value = 0;
    if (cudaGetDevice(&device) != cudaSuccess ||
        cudaDeviceGetAttribute(&value, attribute, device) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return value;
}
inline int multiprocessors() {
    const int count = device_attribute(cudaDevAttrMultiProcessorCount);
    return count > 0 ? count : 1;
}
// Shared memory that a block can ask for.
inline std::size_t most_shared_bytes() {
    return static_cast<std::size_t>(device_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
}

#else

// Has few of all, so that small tests take every path; tests change it.
struct EmulatedDevice {
    int multiprocessors = 2;
    std::size_t shared_bytes = std::size_t{64} << 10;
    unsigned most_cluster = 4;
    unsigned hosted_cluster = 4;  // the largest that it has room for
};
inline EmulatedDevice& emulated_device() {
    static EmulatedDevice device;
    return device;
}
inline int multiprocessors() {
    return emulated_device().multiprocessors;
}
inline std::size_t most_shared_bytes() {
    return emulated_device().shared_bytes;
}

#endif

}  // namespace cuda
}  // namespace seqrec_fast
