// The best k of the keys that the threads of a block find.
#pragma once

#include <limits>

#include "cells/candidate_key.h"
#include "cuda/topk_kernels.h"
#include "cuda/topk_plan.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

// Sorts n keys, a power of two, in shared memory, the largest first. All of `threads` threads
// call it, and meet in sync().
template <class Sync>
SEQREC_FN void sort_keys(CandidateKey* keys, int n, int thread, int threads, const Sync& sync) {
    for (int size = 2; size <= n; size *= 2) {
        for (int step = size / 2; step > 0; step /= 2) {
            for (int i = thread; i < n / 2; i += threads) {
                const int low = 2 * i - (i & (step - 1)), high = low + step;
                const CandidateKey a = keys[low], b = keys[high];
                if ((a < b) == ((low & size) == 0)) {
                    keys[low] = b;
                    keys[high] = a;
                }
            }
            sync();
        }
    }
}

SEQREC_FN int power_of_two_for(int n) {
    int power = 1;
    while (power < n) {
        power *= 2;
    }
    return power;
}

// What a block of kTopkThreads shares, besides its keys: `room` of them, a power of two.
struct BestKeys {
    int count, busy;
    CandidateKey floor;

    static int room_for(std::int64_t k) {
        int room = 64;
        while (room < k + kTopkThreads) {
            room *= 2;
        }
        return room;
    }

    // Adds the keys of lists that are not below the floor to the `count` that are there; threads
    // share out the lists, then each list. lists.count(l) keys are in list l, of which
    // lists.key(l, i) is one or 0; where lists are kSorted a thread leaves one at the first that is
    // below the floor. The best k, or all, come to lie in order. All threads call it, after a
    // barrier.
    template <class Lists>
    SEQREC_FN void add(const Lists& lists, std::int64_t n_lists, int k, CandidateKey* keys,
                       int room) {
        const int thread = static_cast<int>(threadIdx.x);
        int sharers = 1;  // of a list
        while (sharers * 2 * n_lists <= kTopkThreads) {
            sharers *= 2;
        }
        std::int64_t list = thread / sharers, at = thread % sharers;
        for (bool more = true; more;) {
            const CandidateKey least = floor;
            const std::int64_t n = list < n_lists ? lists.count(list) : 0;
            CandidateKey key = at < n ? lists.key(list, at) : 0;
            key = key >= least ? key : 0;
            if (key != 0) {
                keys[atomicAdd(&count, 1)] = key;
            }
            at += sharers;
            if (at >= n || (Lists::kSorted && key == 0)) {
                list += kTopkThreads / sharers;
                at = thread % sharers;
            }
            if (__any_sync(kAllLanes, list < n_lists) && lane_index() == 0) {
                atomicAdd(&busy, 1);
            }
            __syncthreads();
            more = busy > 0;
            const int found = count;
            const bool full = found + kTopkThreads > room;
            if (!more || full) {
                const int size = power_of_two_for(found);
                for (int i = found + thread; i < size; i += kTopkThreads) {
                    keys[i] = 0;
                }
                __syncthreads();
                sort_keys(keys, size, thread, kTopkThreads, [] { __syncthreads(); });
            }
            __syncthreads();
            if (thread == 0) {
                busy = 0;
                if (!more || full) {
                    count = found < k ? found : k;
                }
                if (full && keys[k - 1] > least) {
                    floor = keys[k - 1];
                }
            }
            __syncthreads();
        }
    }
};

// To places [done, done + k) of the answer to a query, whose items are every item_step-th.
SEQREC_FN void write_answer(const TopkRowsArgs& args, std::int64_t query, std::int64_t done, int k,
                            const CandidateKey* keys, int n, std::int64_t item_step) {
    const std::int64_t left = args.k - done;
    for (int i = static_cast<int>(threadIdx.x); i < k && i < left; i += kTopkThreads) {
        const std::int64_t to = query * args.k + done + i;
        args.scores[to] =
            i < n ? candidate_score(keys[i]) : -std::numeric_limits<float>::infinity();
        args.ids[to] = i < n ? static_cast<std::int64_t>(candidate_id(keys[i])) * item_step : -1;
    }
}

// The key of a place of an answer; 0: it is empty.
SEQREC_FN CandidateKey answer_key(const TopkRowsArgs& args, std::int64_t query, std::int64_t i) {
    const std::int64_t at = query * args.k + i, id = args.ids[at];
    return id < 0 ? 0 : candidate_key(args.scores[at], static_cast<std::uint32_t>(id));
}

}  // namespace cuda
}  // namespace seqrec_fast
