// What the time loops of recurrent layers share. A block runs all steps of a few sessions, the rows
// of its tile, without any other block; a thread has all gates of a unit, for all rows.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/check.h"
#include "cuda/device_limits.h"
#include "cuda/device_math.h"
#include "cuda/rnn_kernels.h"

namespace seqrec_fast {
namespace cuda {

// Several terms of a sum are read before the first is used.
#if defined(__CUDACC__)
#define SEQREC_PRAGMA(text) _Pragma(#text)
#define SEQREC_UNROLL(times) SEQREC_PRAGMA(unroll times)
#else
#define SEQREC_UNROLL(times)
#endif

constexpr unsigned kRnnThreads = 512;

// A value of every row of the tile, read at once.
template <class T, int kRows>
struct alignas(sizeof(T) * kRows < 16 ? sizeof(T) * kRows : 16) RowValues {
    T of[kRows];
};

template <int kRows>
struct TileRows {
    std::int64_t session[kRows];  // -1: none
    std::int64_t first[kRows], length[kRows];

    SEQREC_FN void load(const DeviceLayout& layout, std::int64_t tile) {
        const auto r = static_cast<int>(threadIdx.x);
        if (r >= kRows) {
            return;
        }
        const std::int64_t at = tile * kRows + r;
        session[r] = -1;
        first[r] = length[r] = 0;
        if (at < layout.batch) {
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

// Units of a block's threads are `threads` apart: whole warps, as even as possible.
inline unsigned rnn_threads(std::int64_t hidden) {
    const std::int64_t turns = (hidden + kRnnThreads - 1) / kRnnThreads;
    const std::int64_t share = (hidden + turns - 1) / turns;
    return static_cast<unsigned>((share + kWarp - 1) / kWarp * kWarp);
}

// sum[g][r] += sum over k < depth of left[k].of[r] * weights[k * stride + g * gate_stride], in the
// order of k, whatever the number of rows.
template <int kGates, int kRows, class T>
SEQREC_FN void add_products(const RowValues<T, kRows>* left, const T* weights, int stride,
                            int gate_stride, int depth, T (&sum)[kGates][kRows]) {
    SEQREC_UNROLL(4)
    for (int k = 0; k < depth; ++k) {
        const RowValues<T, kRows> row = left[k];
        for (int g = 0; g < kGates; ++g) {
            const T w = weights[k * stride + g * gate_stride];
            for (int r = 0; r < kRows; ++r) {
                sum[g][r] = DeviceMath<T>::mul_add(row.of[r], w, sum[g][r]);
            }
        }
    }
}

// Copies what all threads of a block will read again and again.
template <class T>
SEQREC_FN void copy_to_shared(const T* from, std::int64_t n, T* to) {
    for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        to[i] = from[i];
    }
}

// Calls start(rows, stationary, bytes), two constants and the dynamic shared memory: few rows to a
// block where there are not enough sessions for all multiprocessors, weights in shared memory where
// they fit there beside `shared_bytes(rows)`.
template <class T, class Bytes, class Start>
void with_tile_shape(const char* function, std::int64_t batch, std::int64_t weights,
                     const Bytes& shared_bytes, const Start& start) {
    constexpr std::integral_constant<int, 2> few{};
    constexpr std::integral_constant<int, sizeof(T) == 4 ? 8 : 4> many{};
    constexpr std::size_t kTables = std::size_t{4} << 10;
    const std::size_t room = most_shared_bytes() - kTables;
    SEQREC_CHECK(shared_bytes(few()) <= room, function, ": the states of ", few(),
                 " sessions take ", shared_bytes(few()), " bytes; expected up to ", room,
                 ", the shared memory of this GPU");
    const auto with_rows = [&](auto rows) {
        const auto more = static_cast<std::size_t>(weights) * sizeof(T);
        if (sizeof(T) == 4 && shared_bytes(rows()) + more <= room) {
            start(rows, std::integral_constant<bool, sizeof(T) == 4>(),
                  shared_bytes(rows()) + more);
        } else {
            start(rows, std::false_type(), shared_bytes(rows()));
        }
    };
    if (batch <= few() * multiprocessors() || shared_bytes(many()) > room) {
        with_rows(few);
    } else {
        with_rows(many);
    }
}

}  // namespace cuda
}  // namespace seqrec_fast
