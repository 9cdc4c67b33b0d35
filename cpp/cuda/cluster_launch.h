// Which clusters a GPU can run, see cuda/cluster.h.
#pragma once

#include <map>
#include <mutex>
#include <tuple>

#include "cuda/device.h"
#include "cuda/launch.h"

namespace seqrec_fast {
namespace cuda {

// Blocks of the largest cluster to try; 1: the GPU has none.
inline std::int64_t most_cluster_blocks() {
#if defined(__CUDACC__)
    return device_attribute(cudaDevAttrClusterLaunch) != 0 ? 16 : 1;
#else
    return emulated_device().most_cluster;
#endif
}

// Whether the current GPU has room for one cluster of this shape: its blocks need multiprocessors
// that are neighbours, and a part of a GPU may have too few.
template <class... Parameters>
bool hosts_cluster(void (*kernel)(Parameters...), const LaunchShape& shape) {
#if defined(__CUDACC__)
    // Asked once for each of these: the answer is the same for every launch.
    using Question = std::tuple<void (*)(Parameters...), int, unsigned, unsigned, std::size_t>;
    static std::mutex mutex;
    static std::map<Question, bool> answers;
    int device = 0;
    cudaGetDevice(&device);
    const Question question{kernel, device, shape.cluster, shape.threads, shape.shared_bytes};
    const std::lock_guard<std::mutex> lock(mutex);
    if (const auto known = answers.find(question); known != answers.end()) {
        return known->second;
    }
    cudaLaunchAttribute attribute;
    const cudaLaunchConfig_t config = launch_config(shape, nullptr, attribute);
    int clusters = 0;
    if (allow(kernel, shape) != cudaSuccess ||
        cudaOccupancyMaxActiveClusters(&clusters, kernel, &config) != cudaSuccess) {
        cudaGetLastError();  // not of the launch that follows
        clusters = 0;
    }
    return answers[question] = clusters > 0;
#else
    static_cast<void>(kernel);
    return shape.cluster <= emulated_device().hosted_cluster;
#endif
}

}  // namespace cuda
}  // namespace seqrec_fast
