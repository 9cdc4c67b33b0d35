// What the rows of a tile process in a step, in shared memory: a thread looks it up for all.
#pragma once

#include <cstdint>

#include "cells/cell_kind.h"
#include "cuda/rnn_kernels.h"
#include "cuda/rnn_tile.h"

namespace seqrec_fast {
namespace cuda {

template <int kRows>
struct ForwardStep {
    std::int64_t event[kRows];  // -1: the row has no such step
    bool reset[kRows];

    // Every row's thread, for step s.
    template <class S>
    SEQREC_FN void find(const RnnLoopArgs<S>& args, const TileRows<kRows>& tile, int s) {
        const auto r = static_cast<int>(threadIdx.x);
        if (r < kRows) {
            const bool has = s < tile.length[r];
            event[r] = has ? tile.event(args.layout, r, s, args.reverse) : -1;
            reset[r] = has && args.reset != nullptr && args.reset[event[r]] != 0;
        }
    }
};

template <class S, int kRows>
struct BackwardStep {
    std::int64_t event[kRows];                   // -1: the row has no such step
    const S *h_before[kRows], *c_before[kRows];  // the states it started from; null: zeros
    bool reset[kRows];

    SEQREC_FN void find(const RnnLoopGradArgs<S>& args, const TileRows<kRows>& tile, int s) {
        const auto r = static_cast<int>(threadIdx.x);
        if (r >= kRows || s < 0) {
            return;
        }
        const bool has = s < tile.length[r];
        event[r] = has ? tile.event(args.layout, r, s, args.reverse) : -1;
        reset[r] = has && args.reset != nullptr && args.reset[event[r]] != 0;
        h_before[r] = c_before[r] = nullptr;
        if (!has || reset[r]) {
            return;
        }
        const std::int64_t hidden = args.hidden;
        if (s == 0) {
            const std::int64_t at = tile.session[r] * hidden;
            h_before[r] = args.h_0 == nullptr ? nullptr : args.h_0 + at;
            c_before[r] = args.c_0 == nullptr ? nullptr : args.c_0 + at;
            return;
        }
        const std::int64_t before = tile.event(args.layout, r, s - 1, args.reverse);
        h_before[r] = args.y + before * hidden;
        if (args.kind == CellKind::lstm) {
            constexpr std::int64_t kSaved = saved_count(CellKind::lstm);  // c is the last
            c_before[r] = args.saved + (before * kSaved + kSaved - 1) * hidden;
        }
    }
};

}  // namespace cuda
}  // namespace seqrec_fast
