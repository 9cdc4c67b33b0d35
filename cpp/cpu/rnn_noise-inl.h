// The noise of one step for the rows of a tile, drawn anew by forward and backward.

// Per-target include guard
#if defined(SEQREC_CPU_RNN_NOISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_RNN_NOISE_INL_H_
#undef SEQREC_CPU_RNN_NOISE_INL_H_
#else
#define SEQREC_CPU_RNN_NOISE_INL_H_
#endif

#include <algorithm>
#include <cmath>

#include "base/workspace.h"
#include "cells/cell_kind.h"
#include "cpu/philox-inl.h"
#include "cpu/rnn_noise.h"
#include "cpu/rnn_tiles.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Matrices of (rows, stride); null where the layer has no such noise.
template <class T>
class NoiseTile {
  public:
    // `noise` may be null.
    NoiseTile(const RnnNoise* noise, CellKind kind, std::int64_t rows, std::int64_t stride)
        : noise_(noise),
          stride_(stride),
          drops_(noise != nullptr && noise->drops()),
          zones_(noise != nullptr && noise->zones()),
          has_cell_state_(kind == CellKind::lstm),
          size_(rows * stride) {}

    // What `take` needs of the tile's workspace.
    std::size_t bytes() const {
        return static_cast<std::size_t>(n_matrices()) * Workspace::bytes_for<T>(size_);
    }
    void take(Workspace& workspace) {
        if (drops_) {
            candidate_scale_ = workspace.take<T>(size_);
        }
        if (zones_) {
            keep_h_ = workspace.take<T>(size_);
            other_h_ = workspace.take<T>(size_);
        }
        if (zones_ && has_cell_state_) {
            keep_c_ = workspace.take<T>(size_);
            other_c_ = workspace.take<T>(size_);
        }
    }

    bool zones() const { return zones_; }
    const T* candidate_scale() const { return candidate_scale_; }  // 0 or 1 / (1 - dropout)
    const T* keep_h() const { return keep_h_; }  // how much of h, of c, stays: 0, 1 or zoneout

    // The noise of the events that the first `active` rows process in their step s.
    void draw(const SessionTile& tile, std::int64_t s, std::int64_t active) {
        for (std::int64_t r = 0; r < active && (drops_ || zones_); ++r) {
            const auto session = static_cast<std::uint32_t>(noise_->session(tile.session(r)));
            const auto step = static_cast<std::uint32_t>(tile.time(r, s));
            if (drops_) {
                const double p = noise_->recurrent_dropout;
                fill(step, session, 0, p, 0, 1 / (1 - p), candidate_scale_ + r * stride_);
            }
            if (keep_h_ != nullptr) {
                fill_keep(step, session, 1, keep_h_ + r * stride_);
            }
            if (keep_c_ != nullptr) {
                fill_keep(step, session, 2, keep_c_ + r * stride_);
            }
        }
    }

    // Forward: puts c aside before a step, and blends the states after it.
    void remember_cell_state(const T* c, std::int64_t active) {
        if (keep_c_ != nullptr) {
            std::copy_n(c, active * stride_, other_c_);
        }
    }
    void blend(const T* h, T* h_next, T* c, std::int64_t active) const {
        if (keep_h_ != nullptr) {
            mix(keep_h_, h, h_next, active);
        }
        if (keep_c_ != nullptr) {
            mix(keep_c_, other_c_, c, active);
        }
    }

    // Backward: takes from the gradients what goes past the cell before its step, and adds it to
    // what the cell gives after it.
    void split(T* dh, T* dc, std::int64_t active) {
        if (keep_h_ != nullptr) {
            split(keep_h_, dh, other_h_, active);
        }
        if (keep_c_ != nullptr) {
            split(keep_c_, dc, other_c_, active);
        }
    }
    void join(T* dh, T* dc, std::int64_t active) const {
        if (keep_h_ != nullptr) {
            add(other_h_, dh, active);
        }
        if (keep_c_ != nullptr) {
            add(other_c_, dc, active);
        }
    }

  private:
    int n_matrices() const {
        return (drops_ ? 1 : 0) + (zones_ ? 2 : 0) + (zones_ && has_cell_state_ ? 2 : 0);
    }

    void fill_keep(std::uint32_t step, std::uint32_t session, std::uint32_t kind, T* out) const {
        if (noise_->random) {
            fill(step, session, kind, noise_->zoneout, 1, 0, out);
        } else {
            std::fill_n(out, stride_, static_cast<T>(noise_->zoneout));
        }
    }

    // A row of `hit` with the probability p, else of `miss`. Kinds of noise have their own bits.
    void fill(std::uint32_t step, std::uint32_t session, std::uint32_t kind, double p, double hit,
              double miss, T* out) const {
        const T on = static_cast<T>(hit), off = static_cast<T>(miss);
        philox_chances(noise_->seed, step, session, noise_->stream * 4 + kind, p, stride_,
                       [&](std::int64_t i, bool hits) { out[i] = hits ? on : off; });
    }

    void mix(const T* keep, const T* before, T* after, std::int64_t active) const {
        for (std::int64_t i = 0; i < active * stride_; ++i) {
            after[i] = keep[i] * before[i] + (1 - keep[i]) * after[i];
        }
    }
    void split(const T* keep, T* grad, T* past, std::int64_t active) const {
        for (std::int64_t i = 0; i < active * stride_; ++i) {
            past[i] = keep[i] * grad[i];
            grad[i] *= 1 - keep[i];
        }
    }
    void add(const T* past, T* grad, std::int64_t active) const {
        for (std::int64_t i = 0; i < active * stride_; ++i) {
            grad[i] += past[i];
        }
    }

    const RnnNoise* noise_;
    std::int64_t stride_;
    bool drops_, zones_, has_cell_state_;
    std::int64_t size_;
    T *candidate_scale_ = nullptr, *keep_h_ = nullptr, *keep_c_ = nullptr;
    T *other_h_ = nullptr, *other_c_ = nullptr;
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
