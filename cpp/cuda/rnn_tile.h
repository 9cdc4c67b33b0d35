// What the time loops of recurrent layers share. A block runs all steps of a few sessions, the rows
// of its tile, without any other block; a thread has all gates of a unit, for all rows.
#pragma once

#include <cstdint>

#include "cuda/cluster.h"
#include "cuda/device_math.h"
#include "cuda/rnn_kernels.h"
#include "cuda/unroll.h"

namespace seqrec_fast {
namespace cuda {

// Several terms of a sum are read before the first is used.
#if defined(__CUDACC__)
#define SEQREC_PRAGMA(text) _Pragma(#text)
#define SEQREC_UNROLL_BY(times) SEQREC_PRAGMA(unroll times)
#else
#define SEQREC_UNROLL_BY(times)
#endif

constexpr unsigned kRnnThreads = 512;

// A value of every row of the tile, read at once.
template <class T, int kRows>
struct alignas(sizeof(T) * kRows < 16 ? sizeof(T) * kRows : 16) RowValues {
    T of[kRows];
};

// All sessions of a tile are of one expert, so that they share its weights. The first tiles, which
// have the longest sessions, are one of each expert.
SEQREC_FN std::int64_t expert_of(const DeviceLayout& layout, std::int64_t tile) {
    return tile % layout.experts;
}
template <class T>
SEQREC_FN RecurrentWeights<T> weights_of(const RecurrentWeights<T>& all, std::int64_t expert) {
    const std::int64_t first = expert * all.stride;
    return {all.full == nullptr ? nullptr : all.full + first,
            all.packed == nullptr ? nullptr : all.packed + first, all.stride};
}

template <int kRows>
struct TileRows {
    std::int64_t session[kRows];  // -1: none
    std::int64_t first[kRows], length[kRows];

    SEQREC_FN void load(const DeviceLayout& layout, std::int64_t tile) {
        const auto r = static_cast<int>(threadIdx.x);
        if (r >= kRows) {
            return;
        }
        const std::int64_t expert = expert_of(layout, tile);
        const std::int64_t sessions = layout.batch / layout.experts;
        const std::int64_t own = tile / layout.experts * kRows + r;
        session[r] = -1;
        first[r] = length[r] = 0;
        if (own < sessions) {
            const std::int64_t at = expert * sessions + own;
            const std::int64_t b = layout.order == nullptr ? at : layout.order[at];
            session[r] = b;
            first[r] = layout.first == nullptr ? b * layout.first_stride : layout.first[b];
            length[r] = layout.length == nullptr ? layout.seq_len : layout.length[b];
        }
        // Offsets are not looked at before: those that lead out of the arrays lead nowhere.
        if (first[r] < 0 || length[r] < 0 || first[r] > layout.events ||
            length[r] > layout.events - first[r]) {
            length[r] = 0;
        }
    }
    SEQREC_FN int max_steps() const {
        std::int64_t most = 0;
        for (int r = 0; r < kRows; ++r) {
            most = length[r] > most ? length[r] : most;
        }
        return static_cast<int>(most);
    }
    // The event that row r processes in its step s, which it has.
    SEQREC_FN std::int64_t event(const DeviceLayout& layout, int r, std::int64_t s,
                                 bool reverse) const {
        const std::int64_t t = reverse ? length[r] - 1 - s : s;
        return first[r] + (layout.step == nullptr ? t * layout.step_stride : layout.step[t]);
    }
};

// Where a step's product finds weight_hh: in the shared memory of the block; in that of the blocks
// of a cluster, each with the units it computes; in L2, from where it is read once a step for all
// rows of the tile; or nowhere, because the product is the caller's (OneStep).
enum class WeightPlace { block, cluster, stream, outside };

// The turns (units, or groups of them) that this block computes; `most`: that any block does. What
// blocks reach in each other's memory lies in the same place, so all take as much before it.
struct OwnTurns {
    int begin, end, most;
};
template <WeightPlace place>
SEQREC_FN OwnTurns own_turns(int turns) {
    if constexpr (place == WeightPlace::cluster) {
        const int share = (turns + cluster_size() - 1) / cluster_size();
        const int begin = share * cluster_rank(), end = begin + share;
        return {begin < turns ? begin : turns, end < turns ? end : turns, share};
    } else {
        return {0, turns, turns};
    }
}

// Calls put(p) with where `p`, in this block's shared memory, is in that of all blocks that the
// product of the tile is shared by.
template <WeightPlace place, class T, class Put>
SEQREC_FN void put_in_all(T* p, const Put& put) {
    if constexpr (place == WeightPlace::cluster) {
        for (int rank = 0; rank < cluster_size(); ++rank) {
            put(shared_of_rank(p, rank));
        }
    } else {
        put(p);
    }
}
template <WeightPlace place>
SEQREC_FN void sync_tile() {
    if constexpr (place == WeightPlace::cluster) {
        cluster_sync();
    } else {
        __syncthreads();
    }
}

// Dynamic shared memory, taken piece by piece, each aligned to 16 bytes.
class SharedMemory {
  public:
    explicit SEQREC_FN SharedMemory(unsigned char* next) : next_(next) {}

    template <class V>
    static SEQREC_FN constexpr std::size_t bytes(std::int64_t n) {
        return (static_cast<std::size_t>(n) * sizeof(V) + 15) / 16 * 16;
    }
    template <class V>
    SEQREC_FN V* take(std::int64_t n) {
        V* const taken = reinterpret_cast<V*>(next_);
        next_ += bytes<V>(n);
        return taken;
    }
    // Copies what all threads of the block will read again and again, into room for `most`.
    template <class V>
    SEQREC_FN const V* keep(const V* from, std::int64_t n, std::int64_t most) {
        V* const to = take<V>(most);
        for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) {
            to[i] = from[i];
        }
        return to;
    }

  private:
    unsigned char* next_;
};

// Threads for `n` things that take `each` of them: whole warps, the turns as even as possible.
inline unsigned rnn_threads(std::int64_t n, std::int64_t each) {
    const std::int64_t most = kRnnThreads / each, turns = (n + most - 1) / most;
    const std::int64_t threads = (n + turns - 1) / turns * each;
    return static_cast<unsigned>((threads + kWarp - 1) / kWarp * kWarp);
}

}  // namespace cuda
}  // namespace seqrec_fast
