// A matrix packed for the register tiles of gemm-inl.h.
//
// The columns of the product (rows of a PyTorch weight) lie in packed vectors of 64 bytes (16
// float32, 8 float64), whatever the width of the target, so one packing serves every target.
// Vectors lie in panels of up to four:  panel 0: [k = 0][vector 0..3][lane], [k = 1][...], ...
// For a gated cell a panel is the same 16 units of every gate (r, z, n or i, f, g, o), so that one
// pass over the state ends with all gates of a unit in registers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "base/aligned_buffer.h"
#include "cpu/transpose.h"

namespace seqrec_fast {

template <class T>
constexpr std::int64_t kPackedLanes = static_cast<std::int64_t>(kCacheLine / sizeof(T));

template <class T>
constexpr std::int64_t blocks_of(std::int64_t n) {
    return (n + kPackedLanes<T> - 1) / kPackedLanes<T>;
}

// `n` rounded up to whole packed vectors.
template <class T>
constexpr std::int64_t padded_to_vectors(std::int64_t n) {
    return blocks_of<T>(n) * kPackedLanes<T>;
}

constexpr std::int64_t kMaxPanelVectors = 4;

template <class T>
class PackedPanels {
  public:
    PackedPanels() = default;
    // Columns of `depth` terms each, `panel_vectors` (1 to 4) packed vectors to a panel; the last
    // panel takes what is left.
    PackedPanels(std::int64_t columns, std::int64_t depth, std::int64_t panel_vectors)
        : PackedPanels(columns, blocks_of<T>(columns), depth, panel_vectors) {}
    // The same units of every gate to a panel.
    static PackedPanels gated(std::int64_t units, std::int64_t gates, std::int64_t depth) {
        return {units, blocks_of<T>(units) * gates, depth, gates};
    }

    std::int64_t n_vectors() const { return n_vectors_; }
    std::int64_t depth() const { return depth_; }
    std::int64_t panel_vectors() const { return panel_vectors_; }
    std::int64_t n_panels() const {
        return panel_vectors_ == 0 ? 0 : (n_vectors_ + panel_vectors_ - 1) / panel_vectors_;
    }
    std::int64_t vectors_in(std::int64_t panel) const {
        return std::min(panel_vectors_, n_vectors_ - panel * panel_vectors_);
    }
    // Lanes of the panel's last vector that hold columns; if gated, of all its vectors.
    std::int64_t lanes_in(std::int64_t panel) const {
        return panel + 1 < n_panels() ? kPackedLanes<T> : last_lanes_;
    }
    const T* panel(std::int64_t p) const {
        return data_.data() + p * panel_vectors_ * depth_ * kPackedLanes<T>;
    }
    std::int64_t nbytes() const { return static_cast<std::int64_t>(data_.size() * sizeof(T)); }

    T at(std::int64_t vector, std::int64_t lane, std::int64_t k) const {
        const std::int64_t p = vector / panel_vectors_;
        return panel(p)[(k * vectors_in(p) + vector % panel_vectors_) * kPackedLanes<T> + lane];
    }

    // Fills the lanes of one vector from `n_lanes` rows of `depth` elements, with 0 beyond them.
    void fill_vector_from_rows(std::int64_t vector, std::int64_t n_lanes, const T* const* rows) {
        const std::int64_t p = vector / panel_vectors_;
        const std::int64_t stride = vectors_in(p) * kPackedLanes<T>;
        T* out = data_.data() + p * panel_vectors_ * depth_ * kPackedLanes<T> +
                 (vector % panel_vectors_) * kPackedLanes<T>;
        transpose_cpu<T>({rows, n_lanes, depth_, out, stride});
        for (std::int64_t k = 0; n_lanes < kPackedLanes<T> && k < depth_; ++k) {
            std::fill(out + k * stride + n_lanes, out + k * stride + kPackedLanes<T>, T(0));
        }
    }

    // Fills all vectors of a panel, every lane from a row.
    void fill_panel_from_rows(std::int64_t p, const T* const* rows) {
        const std::int64_t width = vectors_in(p) * kPackedLanes<T>;
        transpose_cpu<T>({rows, width, depth_,
                          data_.data() + p * panel_vectors_ * depth_ * kPackedLanes<T>, width});
    }

    // The same for all lanes: element k of lane l is source(l, k).
    template <class Source>
    void fill_vector(std::int64_t vector, const Source& source) {
        const std::int64_t p = vector / panel_vectors_;
        const std::int64_t stride = vectors_in(p) * kPackedLanes<T>;
        T* out = data_.data() + p * panel_vectors_ * depth_ * kPackedLanes<T> +
                 (vector % panel_vectors_) * kPackedLanes<T>;
        for (std::int64_t k = 0; k < depth_; ++k, out += stride) {
            for (std::int64_t lane = 0; lane < kPackedLanes<T>; ++lane) {
                out[lane] = source(lane, k);
            }
        }
    }

    // Fills term k of every vector from a row of `n` columns, with 0 beyond them.
    void fill_term(std::int64_t k, const T* row, std::int64_t n) {
        for (std::int64_t p = 0; p < n_panels(); ++p) {
            const std::int64_t filled = std::min(vectors_in(p) * kPackedLanes<T>, n);
            fill_panel_term(p, k, row, filled);
            row += filled;
            n -= filled;
        }
    }

    // The same for one panel.
    void fill_panel_term(std::int64_t p, std::int64_t k, const T* row, std::int64_t n) {
        const std::int64_t width = vectors_in(p) * kPackedLanes<T>;
        T* out = data_.data() + p * panel_vectors_ * depth_ * kPackedLanes<T> + k * width;
        T* const end = out + width;
        // A vector at a time, as moves: a call of memmove takes longer than the copy.
        for (; n >= kPackedLanes<T>; n -= kPackedLanes<T>, row += kPackedLanes<T>) {
            std::memcpy(out, row, kCacheLine);
            out += kPackedLanes<T>;
        }
        std::fill(std::copy_n(row, n, out), end, T(0));
    }

  private:
    PackedPanels(std::int64_t units, std::int64_t n_vectors, std::int64_t depth,
                 std::int64_t panel_vectors)
        : n_vectors_(n_vectors),
          depth_(depth),
          panel_vectors_(panel_vectors),
          last_lanes_(units - (blocks_of<T>(units) - 1) * kPackedLanes<T>),
          data_(static_cast<std::size_t>(n_vectors * depth * kPackedLanes<T>)) {}

    std::int64_t n_vectors_ = 0, depth_ = 0, panel_vectors_ = 0, last_lanes_ = 0;
    AlignedBuffer<T> data_;
};

}  // namespace seqrec_fast
