// The threads of a CUDA block on one CPU thread: fibers that take turns at barriers and warp
// collectives. For tests: it finds wrong results, wrong indices, barriers that not all threads
// reach, and, since the order of threads changes from launch to launch, most missing barriers.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

namespace seqrec_fast {
namespace simt {

struct Index {
    unsigned x = 1, y = 1, z = 1;
};

// Of the thread that runs: read through threadIdx and its relatives.
struct Position {
    Index thread, block, block_dim, grid_dim;
};
const Position& position();

// Waits until all threads of the block that have not returned are here.
void sync_block();

// Every lane gives `bytes` bytes, at most 16; returns those of all lanes, 16 bytes apart, which
// are valid until the lane's next collective. Lanes that have returned give zeros.
const unsigned char* exchange(unsigned mask, const void* value, std::size_t bytes);
unsigned lane();

void* dynamic_shared();

// Of a cluster: `cluster` neighbouring blocks that run at the same time. Their SEQREC_SHARED
// variables are one, so kernels that are started in clusters must do without.
unsigned cluster_size();
unsigned cluster_rank();
void sync_cluster();
// Where `p`, in this block's dynamic shared memory, is in that of another block of the cluster.
void* shared_of_rank(void* p, unsigned rank);

// Runs all blocks, one cluster after another. Throws std::runtime_error where threads wait for each
// other for ever.
void run(Index grid, Index block, std::size_t shared_bytes, const std::function<void()>& thread,
         unsigned cluster = 1);

template <class T>
T shuffle(unsigned mask, T value, unsigned from) {
    static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 16);
    const unsigned char* const all = exchange(mask, &value, sizeof(T));
    T result;
    std::memcpy(&result, all + from % 32 * 16, sizeof(T));
    return result;
}

}  // namespace simt
}  // namespace seqrec_fast

// The names below are CUDA's.
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
#define SEQREC_SHARED static
#define SEQREC_DYNAMIC_SHARED(T, name) \
    T* const name = static_cast<T*>(::seqrec_fast::simt::dynamic_shared())
#define threadIdx (::seqrec_fast::simt::position().thread)
#define blockIdx (::seqrec_fast::simt::position().block)
#define blockDim (::seqrec_fast::simt::position().block_dim)
#define gridDim (::seqrec_fast::simt::position().grid_dim)

// The type of CUDA, so that plain C++ and what nvcc compiles link.
using cudaStream_t = struct CUstream_st*;
struct dim3 : seqrec_fast::simt::Index {
    dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : Index{x_, y_, z_} {}
};
struct float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};

inline void __syncthreads() {
    seqrec_fast::simt::sync_block();
}
inline void __syncwarp(unsigned mask = 0xffffffffU) {
    const int nothing = 0;
    seqrec_fast::simt::exchange(mask, &nothing, sizeof nothing);
}
template <class T>
T __shfl_sync(unsigned mask, T value, int from, int width = 32) {
    const unsigned lane = seqrec_fast::simt::lane(), w = static_cast<unsigned>(width);
    return seqrec_fast::simt::shuffle(mask, value, lane / w * w + static_cast<unsigned>(from) % w);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits) {
    return seqrec_fast::simt::shuffle(mask, value,
                                      seqrec_fast::simt::lane() ^ static_cast<unsigned>(bits));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta) {
    const unsigned lane = seqrec_fast::simt::lane();
    return seqrec_fast::simt::shuffle(mask, value, lane < delta ? lane : lane - delta);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
    const unsigned lane = seqrec_fast::simt::lane();
    return seqrec_fast::simt::shuffle(mask, value, lane + delta > 31 ? lane : lane + delta);
}
inline unsigned __ballot_sync(unsigned mask, bool vote) {
    const int value = vote ? 1 : 0;
    const unsigned char* const all = seqrec_fast::simt::exchange(mask, &value, sizeof value);
    unsigned result = 0;
    for (unsigned i = 0; i < 32; ++i) {
        int one;
        std::memcpy(&one, all + i * 16, sizeof one);
        result |= one != 0 ? 1U << i : 0U;
    }
    return result;
}
inline bool __any_sync(unsigned mask, bool vote) {
    return __ballot_sync(mask, vote) != 0;
}
inline bool __all_sync(unsigned mask, bool vote) {
    return __ballot_sync(mask, !vote) == 0;
}
inline int __popc(unsigned bits) {
    return __builtin_popcount(bits);
}
inline int __ffs(unsigned bits) {
    return __builtin_ffs(static_cast<int>(bits));
}
template <class T>
T __ldg(const T* p) {
    return *p;
}
// Fibers change hands at barriers alone, so nothing comes between the two halves.
template <class T>
T atomicAdd(T* p, T value) {
    static_assert(std::is_integral_v<T>, "sums of floats must not depend on the order of threads");
    const T before = *p;
    *p = before + value;
    return before;
}
inline unsigned long long atomicMax(unsigned long long* p, unsigned long long value) {
    const unsigned long long before = *p;
    *p = value > before ? value : before;
    return before;
}
