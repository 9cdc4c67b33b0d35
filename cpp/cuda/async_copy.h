// Copies from global to shared memory that go on while a thread does other things (cp.async,
// compute capability 8.0). On emulated threads they come as late as they may.
#pragma once

#include "cells/target_macros.h"
#include "cuda/simt.h"

#if !defined(__CUDACC__)
#include <deque>
#include <vector>
#endif

namespace seqrec_fast {
namespace cuda {

#if defined(__CUDACC__)

// 16 bytes, to which both are aligned.
SEQREC_FN void copy_async(void* shared, const void* global) {
    const auto to = static_cast<unsigned>(__cvta_generic_to_shared(shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(to), "l"(global) : "memory");
}
// What the thread has asked for since the last group is a group, an empty one too.
SEQREC_FN void end_copy_group() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
// Until all groups of the thread but the last kLater are there; other threads need a barrier.
template <int kLater>
SEQREC_FN void wait_for_copies() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kLater) : "memory");
}

#else

struct PendingCopies {
    struct Copy {
        void* to;
        const void* from;
    };
    std::vector<Copy> open;
    std::deque<std::vector<Copy> > groups;

    // Of the thread that runs.
    static PendingCopies& own() {
        static std::vector<PendingCopies> all(1024);
        return all[threadIdx.x];
    }
};

inline void copy_async(void* shared, const void* global) {
    PendingCopies::own().open.push_back({shared, global});
}
inline void end_copy_group() {
    PendingCopies& own = PendingCopies::own();
    own.groups.push_back(std::move(own.open));
    own.open.clear();
}
template <int kLater>
void wait_for_copies() {
    auto& groups = PendingCopies::own().groups;
    for (; groups.size() > kLater; groups.pop_front()) {
        for (const auto& copy : groups.front()) {
            std::memcpy(copy.to, copy.from, 16);
        }
    }
}

#endif

}  // namespace cuda
}  // namespace seqrec_fast
