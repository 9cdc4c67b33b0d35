// Blocks of a cluster, which run at the same time and reach each other's shared memory (compute
// capability 9.0). Elsewhere every block is alone.
#pragma once

#include <cstdint>

#include "cells/target_macros.h"
#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

#if !defined(__CUDACC__)

inline int cluster_size() {
    return static_cast<int>(simt::cluster_size());
}
inline int cluster_rank() {
    return static_cast<int>(simt::cluster_rank());
}
inline void cluster_sync() {
    simt::sync_cluster();
}
// Where `p`, in the dynamic shared memory of this block, is in that of another one.
template <class T>
T* shared_of_rank(T* p, int rank) {
    return static_cast<T*>(simt::shared_of_rank(p, static_cast<unsigned>(rank)));
}

#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900

SEQREC_FN int cluster_size() {
    int size;
    asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
    return size;
}
SEQREC_FN int cluster_rank() {
    int rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
// What was written before, in any block's shared memory, is seen by all after it.
SEQREC_FN void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release;" ::: "memory");
    asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
}
template <class T>
SEQREC_FN T* shared_of_rank(T* p, int rank) {
    std::uint64_t address;
    asm("mapa.u64 %0, %1, %2;"
        : "=l"(address)
        : "l"(reinterpret_cast<std::uint64_t>(p)), "r"(rank));
    return reinterpret_cast<T*>(address);
}

#else

SEQREC_FN int cluster_size() {
    return 1;
}
SEQREC_FN int cluster_rank() {
    return 0;
}
SEQREC_FN void cluster_sync() {
    __syncthreads();
}
template <class T>
SEQREC_FN T* shared_of_rank(T* p, int /*rank*/) {
    return p;
}

#endif

}  // namespace cuda
}  // namespace seqrec_fast
