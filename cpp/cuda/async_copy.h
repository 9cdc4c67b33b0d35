// Copies from a GPU's memory to shared memory that pass by registers and run on while threads
// compute (cp.async, compute capability 8.0). On emulated threads they come as late as they may.
#pragma once

#include <cstring>

#include "cells/target_macros.h"
#include "cuda/simt.h"

#if !defined(__CUDACC__)
#include <deque>
#include <utility>
#include <vector>
#endif

namespace seqrec_fast {
namespace cuda {

#if defined(__CUDACC__)

// 16 bytes, aligned; zeros unless `exists`, and then `from` is not read.
SEQREC_FN void copy_16_bytes_async(void* to, const void* from, bool exists) {
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(address), "l"(from),
                 "r"(exists ? 16 : 0)
                 : "memory");
}
// What this thread has begun since the last group is a group, be it empty.
SEQREC_FN void end_copy_group() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
// Until the groups of this thread but the last kLater have ended; those of other threads are
// complete after a barrier.
template <int kLater>
SEQREC_FN void wait_for_copy_groups() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kLater) : "memory");
}
// Until all that this thread has begun has ended.
SEQREC_FN void wait_for_async_copies() {
    asm volatile("cp.async.wait_all;\n" ::: "memory");
}

#else

struct PendingCopies {
    struct Copy {
        void* to;
        const void* from;  // null: zeros
    };
    std::vector<Copy> open;
    std::deque<std::vector<Copy> > groups;

    // Of the thread that runs, in its cluster.
    static PendingCopies& own() {
        thread_local std::vector<PendingCopies> all;
        const std::size_t number =
            std::size_t{simt::cluster_rank()} * blockDim.x + std::size_t{threadIdx.x};
        all.resize(all.size() > number ? all.size() : number + 1);
        return all[number];
    }
};

inline void copy_16_bytes_async(void* to, const void* from, bool exists) {
    PendingCopies::own().open.push_back({to, exists ? from : nullptr});
}
inline void end_copy_group() {
    PendingCopies& own = PendingCopies::own();
    own.groups.push_back(std::exchange(own.open, {}));
}
template <int kLater>
void wait_for_copy_groups() {
    auto& groups = PendingCopies::own().groups;
    for (; groups.size() > kLater; groups.pop_front()) {
        for (const auto& copy : groups.front()) {
            if (copy.from == nullptr) {
                std::memset(copy.to, 0, 16);
            } else {
                std::memcpy(copy.to, copy.from, 16);
            }
        }
    }
}
inline void wait_for_async_copies() {
    end_copy_group();
    wait_for_copy_groups<0>();
}

#endif

}  // namespace cuda
}  // namespace seqrec_fast
