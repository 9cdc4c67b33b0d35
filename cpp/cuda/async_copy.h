// Copies from a GPU's memory to shared memory that pass by registers and run on while threads
// compute (cp.async, compute capability 8.0); at once on emulated threads.
#pragma once

#include <cstring>

#include "cells/target_macros.h"
#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

// 16 bytes, aligned; zeros unless `exists`, and then `from` is not read.
SEQREC_FN void copy_16_bytes_async(void* to, const void* from, bool exists) {
#if defined(__CUDACC__)
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(from),
                 "r"(exists ? 16 : 0)
                 : "memory");
#else
    if (exists) {
        std::memcpy(to, from, 16);
    } else {
        std::memset(to, 0, 16);
    }
#endif
}

// Until the copies that this thread has begun have ended; those of other threads are complete
// after a barrier.
SEQREC_FN void wait_for_async_copies() {
#if defined(__CUDACC__)
    asm volatile("cp.async.wait_all;\n" ::: "memory");
#endif
}

}  // namespace cuda
}  // namespace seqrec_fast
