// What kernels are written with: CUDA's own names under nvcc; elsewhere the same names on emulated
// threads, so that a kernel can be tested where there is no GPU (emulation/simt_emulation.h).
//
// Rules that keep a kernel emulable: warps are whole (collectives name all 32 lanes, and every lane
// of a warp reaches them), shared memory is SEQREC_SHARED or SEQREC_DYNAMIC_SHARED, and launches go
// through cuda/launch.h.
#pragma once

#if defined(__CUDACC__)
#include <cuda_runtime.h>

#define SEQREC_SHARED __shared__
// `name`, a T*: the dynamic shared memory of the block, aligned to 16 bytes.
#define SEQREC_DYNAMIC_SHARED(T, name)                                   \
    extern __shared__ __align__(16) unsigned char seqrec_shared_bytes[]; \
    T* const name = reinterpret_cast<T*>(seqrec_shared_bytes)
#elif defined(SEQREC_SIMT_EMULATION)
#include "cuda/emulation/simt_emulation.h"
#else
// What host code of a build with CUDA names: the stream.
#include <cuda_runtime_api.h>
#endif

namespace seqrec_fast {
namespace cuda {

constexpr int kWarp = 32;
constexpr unsigned kAllLanes = 0xffffffffU;

}  // namespace cuda
}  // namespace seqrec_fast
