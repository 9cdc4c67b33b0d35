// How kernels are started, on a GPU and in the emulation.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <utility>

#include "base/check.h"
#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

struct LaunchShape {
    std::int64_t blocks;
    unsigned threads;
    std::size_t shared_bytes = 0;
    unsigned cluster = 1;  // neighbouring blocks that run together, see cuda/cluster.h
};

#if defined(__CUDACC__)
// What has to be asked for: more shared memory than usual, clusters that not every GPU has.
template <class... Parameters>
cudaError_t allow(void (*kernel)(Parameters...), const LaunchShape& shape) {
    constexpr std::size_t kUsualShared = std::size_t{48} << 10;
    constexpr unsigned kUsualCluster = 8;
    const auto* const function = reinterpret_cast<const void*>(kernel);
    cudaError_t error = cudaSuccess;
    if (shape.shared_bytes > kUsualShared) {
        error = cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shape.shared_bytes));
    }
    if (error == cudaSuccess && shape.cluster > kUsualCluster) {
        error = cudaFuncSetAttribute(function, cudaFuncAttributeNonPortableClusterSizeAllowed, 1);
    }
    return error;
}

// The same in the form for clusters, which must live as long as the result.
inline cudaLaunchConfig_t launch_config(const LaunchShape& shape, cudaStream_t stream,
                                        cudaLaunchAttribute& attribute) {
    attribute = {};
    attribute.id = cudaLaunchAttributeClusterDimension;
    attribute.val.clusterDim.x = shape.cluster;
    attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(static_cast<unsigned>(shape.blocks));
    config.blockDim = dim3(shape.threads);
    config.dynamicSmemBytes = shape.shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    return config;
}
#endif

// Starts `kernel` on `stream`; nothing for no blocks. Throws std::runtime_error, with the name of
// the op, if the driver refuses.
template <class... Parameters, class... Arguments>
void launch(const char* function, void (*kernel)(Parameters...), const LaunchShape& shape,
            cudaStream_t stream, Arguments&&... arguments) {
    if (shape.blocks == 0) {
        return;
    }
    constexpr std::int64_t kMostBlocks = 0x7fffffff;
    SEQREC_CHECK(shape.blocks > 0 && shape.blocks <= kMostBlocks, function, ": ", shape.blocks,
                 " blocks; expected up to ", kMostBlocks);
    const auto blocks = static_cast<unsigned>(shape.blocks);
#if defined(__CUDACC__)
    cudaError_t error = allow(kernel, shape);
    if (error == cudaSuccess && shape.cluster > 1) {
        cudaLaunchAttribute attribute;
        const cudaLaunchConfig_t config = launch_config(shape, stream, attribute);
        error = cudaLaunchKernelEx(&config, kernel, std::forward<Arguments>(arguments)...);
    } else if (error == cudaSuccess) {
        kernel<<<blocks, shape.threads, shape.shared_bytes, stream>>>(
            std::forward<Arguments>(arguments)...);
    }
    if (error == cudaSuccess) {
        error = cudaGetLastError();
    }
    if (error != cudaSuccess) {
        throw std::runtime_error(concat(function, ": CUDA: ", cudaGetErrorString(error)));
    }
#else
    static_cast<void>(function);
    static_cast<void>(stream);
    simt::run(
        dim3(blocks), dim3(shape.threads), shape.shared_bytes, [&] { kernel(arguments...); },
        shape.cluster);
#endif
}

}  // namespace cuda
}  // namespace seqrec_fast
