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
    // More than that has to be asked for.
    constexpr std::size_t kUsualShared = std::size_t{48} << 10;
    cudaError_t error = cudaSuccess;
    if (shape.shared_bytes > kUsualShared) {
        error = cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel),
                                     cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shape.shared_bytes));
    }
    if (error == cudaSuccess && shape.cluster > 1) {
        cudaLaunchAttribute attribute{};
        attribute.id = cudaLaunchAttributeClusterDimension;
        attribute.val.clusterDim.x = shape.cluster;
        attribute.val.clusterDim.y = attribute.val.clusterDim.z = 1;
        cudaLaunchConfig_t config{};
        config.gridDim = dim3(blocks);
        config.blockDim = dim3(shape.threads);
        config.dynamicSmemBytes = shape.shared_bytes;
        config.stream = stream;
        config.attrs = &attribute;
        config.numAttrs = 1;
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
