// Register tiles: rows of A times packed panels, for every op.
//
// Numerics: each element of a product is summed by fused multiply-adds in the order of k, in blocks
// of kDepthBlock whose sums are added in order, whatever the tile that computes it. So a row's
// result does not depend on the batch it came in, and rounding grows with the block, not with k.
// An op that selects (top-k) has one block, so that its sums never leave the registers.
// Blocking: kRows x kVectors accumulators stay in registers for a block; the block's part of a
// panel (kDepthBlock x 64 B x vectors) stays in L1 while a group of rows passes over it, and so do
// the sums of the group. An op that selects keeps its accumulators for the whole depth.

// Per-target include guard
#if defined(SEQREC_CPU_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_GEMM_INL_H_
#undef SEQREC_CPU_GEMM_INL_H_
#else
#define SEQREC_CPU_GEMM_INL_H_
#endif

#include <algorithm>
#include <type_traits>

#include "cpu/packed_panels.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Accumulators that fit beside the operands: 32 registers on AVX-512 and NEON, else 16. Plain C++
// is there to run anywhere, so its code is small.
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_NEON
constexpr int kAccumulators = 24;
#elif HWY_TARGET == HWY_SCALAR
constexpr int kAccumulators = 4;
#else
constexpr int kAccumulators = 12;
#endif

constexpr std::int64_t kDepthBlock = 64;
// A multiple of every tile's rows. With more, sums and rows would drive the panel out of L1; where
// vectors are wide, its lines are read so seldom that this does not matter.
constexpr std::int64_t kGroupRows = HWY_TARGET == HWY_AVX3 ? 48 : 24;

template <int kVectors>
constexpr int max_rows() {
    return kAccumulators / kVectors < 8 ? kAccumulators / kVectors : 8;
}

// acc[row][slice][vector] += sum over k of rows[row][k * row_step] * slice[k][vector], for one or
// more slices (this target's vectors of the packed vectors), from term k0 on, where the first slice
// starts; the others follow at distances of `slice_step`, and terms at distances of `panel_step`.
template <int kRows, int kSlices, int kVectors, class Tag, class T = hn::TFromD<Tag>>
HWY_INLINE void multiply_add(Tag d, const T* const* HWY_RESTRICT rows, std::int64_t row_step,
                             const T* HWY_RESTRICT panel, std::int64_t slice_step,
                             std::int64_t panel_step, std::int64_t k0, std::int64_t depth,
                             hn::Vec<Tag> (&acc)[kRows][kSlices][kVectors]) {
    const T* row[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
        row[r] = rows[r] + k0 * row_step;
    }
    // The loop's own instructions count where hyper-threads share a decoder. With 16 registers,
    // sums would go to memory.
#if HWY_TARGET == HWY_AVX3
#pragma GCC unroll 4
#endif
    for (std::int64_t k = 0; k < depth; ++k, panel += panel_step) {
        hn::Vec<Tag> w[kSlices][kVectors];
#pragma GCC unroll 8
        for (int s = 0; s < kSlices; ++s) {
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) {
                w[s][v] = hn::LoadU(d, panel + s * slice_step + v * kPackedLanes<T>);
            }
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const hn::Vec<Tag> a = hn::Set(d, row[r][k * row_step]);
#pragma GCC unroll 8
            for (int s = 0; s < kSlices; ++s) {
#pragma GCC unroll 8
                for (int v = 0; v < kVectors; ++v) {
                    acc[r][s][v] = hn::MulAdd(a, w[s][v], acc[r][s][v]);
                }
            }
        }
    }
}

// What the sums of a product start from, vector by vector of a panel: the first `row_vectors` from
// rows of numbers, the others from the same numbers for every row, or from zero.
template <class T>
struct SumsStart {
    const T* const* rows = nullptr;
    std::int64_t offset = 0;  // into each row
    std::int64_t row_vectors = 0;
    const T* shared = nullptr;

    // acc[r][s]: row `row` + r, slice s behind `lane`.
    template <int kRows, int kSlices, int kVectors>
    HWY_INLINE void load(std::int64_t row, std::int64_t lane,
                         hn::Vec<Lanes<T>> (&acc)[kRows][kSlices][kVectors]) const {
        const Lanes<T> d;
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            const bool of_row = v < row_vectors;
            const std::int64_t at =
                (of_row ? offset : -row_vectors * kPackedLanes<T>)+v * kPackedLanes<T> + lane;
            if (of_row || shared != nullptr) {
#pragma GCC unroll 8
                for (int r = 0; r < kRows; ++r) {
                    const T* from = (of_row ? rows[row + r] : shared) + at;
#pragma GCC unroll 8
                    for (int s = 0; s < kSlices; ++s) {
                        acc[r][s][v] = hn::LoadU(d, from + s * lane_count<T>());
                    }
                }
            } else {
#pragma GCC unroll 8
                for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
                    for (int s = 0; s < kSlices; ++s) {
                        acc[r][s][v] = hn::Zero(d);
                    }
                }
            }
        }
    }
};

// Base of an op whose sums start from zero.
template <class T>
struct SumsFromZero {
    static HWY_INLINE SumsStart<T> start() { return {}; }
};

template <class Op, class = void>
struct Selects : std::false_type {};
template <class Op>
struct Selects<Op, std::enable_if_t<Op::kSelects>> : std::true_type {};

// Distance of a row's terms in memory: 1, or Op::row_step.
template <class Op, class = void>
struct RowStep {
    static std::int64_t of(const Op&) { return 1; }
};
template <class Op>
struct RowStep<Op, std::enable_if_t<(sizeof(Op::row_step) > 0)>> {
    static std::int64_t of(const Op& op) { return op.row_step; }
};

template <class Op, class = void>
struct HasStages : std::false_type {};
template <class Op>
struct HasStages<Op, std::enable_if_t<Op::kHasStages>> : std::true_type {};

// Hands rows to `op` in their order: op.finish(row, lane, sums) with sums_of(row). An op in two
// stages (Op::kHasStages) begins a row before it ends the one before it: else the processor holds
// too few rows at once to hide how long one takes.
template <class Op, class SumsOf>
HWY_INLINE void finish_in_order(const Op& op, std::int64_t row0, std::int64_t rows,
                                std::int64_t lane, const SumsOf& sums_of) {
    if constexpr (HasStages<Op>::value) {
        auto stage = op.begin(row0, lane, sums_of(0).values);
        for (std::int64_t r = 1; r < rows; ++r) {
            const auto next = op.begin(row0 + r, lane, sums_of(r).values);
            op.end(row0 + r - 1, lane, stage);
            stage = next;
        }
        op.end(row0 + rows - 1, lane, stage);
    } else {
        for (std::int64_t r = 0; r < rows; ++r) {
            op.finish(row0 + r, lane, sums_of(r).values);
        }
    }
}

template <class T, int kVectors>
struct PanelSums {
    hn::Vec<Lanes<T>> values[kVectors];
};

// Hands sums of one or more rows to `op`. Kept out of line, and the sums in memory, so that
// a cell's formula is compiled once and not once per row of every tile shape.
template <int kVectors, class T, class Op>
HWY_NOINLINE void finish_rows(const Op& op, const T* sums, std::int64_t row0, std::int64_t rows,
                              std::int64_t lane) {
    const Lanes<T> d;
    finish_in_order(op, row0, rows, lane, [&](std::int64_t r) HWY_ATTR {
        PanelSums<T, kVectors> row;
        const T* from = sums + r * kVectors * lane_count<T>();
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            row.values[v] = hn::Load(d, from + v * lane_count<T>());
        }
        return row;
    });
}

// What of a panel is multiplied: the lanes [first_lane, last_lane) of its first vectors. `step`:
// values of all its vectors.
struct PanelPart {
    std::int64_t first_lane, last_lane, step;
};

template <int kVectors, class T>
constexpr PanelPart whole_panel() {
    return {0, kPackedLanes<T>, kVectors * kPackedLanes<T>};
}

// A register tile of an op that selects (Op::kSelects), over the whole depth: a sum is one chain,
// and a tile that `op.wanted` refuses ends in the registers.
template <int kRows, int kSlices, int kVectors, class T, class Op>
HWY_INLINE void select_tile(const Op& op, const T* const* rows, std::int64_t row0, const T* panel,
                            std::int64_t depth, std::int64_t lane) {
    const Lanes<T> d;
    hn::Vec<Lanes<T>> acc[kRows][kSlices][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int s = 0; s < kSlices; ++s) {
            op.init(row0 + r, lane + s * lane_count<T>(), acc[r][s]);
        }
    }
    multiply_add(d, rows + row0, 1, panel + lane, lane_count<T>(), kVectors * kPackedLanes<T>, 0,
                 depth, acc);
    if (!op.wanted(row0, lane, acc)) {
        return;
    }
    alignas(kCacheLine) T sums[kSlices][kRows][kVectors * lane_count<T>()];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int s = 0; s < kSlices; ++s) {
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) {
                hn::Store(acc[r][s][v], d, sums[s][r] + v * lane_count<T>());
            }
        }
    }
    for (int s = 0; s < kSlices; ++s) {
        finish_rows<kVectors>(op, sums[s][0], row0, kRows, lane + s * lane_count<T>());
    }
}

// Cuts rows and a part's slices into register tiles: calls tile(kRows, kSlices, row, lane), the
// first two as integral constants.
template <int kVectors, class T, class Tile>
HWY_INLINE void for_each_tile(std::int64_t n_rows, const PanelPart& part, const Tile& tile) {
    constexpr int kRows = max_rows<kVectors>();
    constexpr std::int64_t kLanes = lane_count<T>();
    using One = std::integral_constant<int, 1>;
    if (n_rows == 1) {
        // One row gives too few independent sums to hide the latency; neighbouring slices help.
        constexpr int kSlices = kLanes * 2 <= kPackedLanes<T> ? 2 : 1;
        std::int64_t lane = part.first_lane;
        for (; lane + kSlices * kLanes <= part.last_lane; lane += kSlices * kLanes) {
            tile(One(), std::integral_constant<int, kSlices>(), 0, lane);
        }
        if (lane < part.last_lane) {
            tile(One(), One(), 0, lane);
        }
        return;
    }
    for (std::int64_t lane = part.first_lane; lane < part.last_lane; lane += kLanes) {
        std::int64_t row = 0;
        for (; row + kRows <= n_rows; row += kRows) {
            tile(std::integral_constant<int, kRows>(), One(), row, lane);
        }
        if constexpr (kRows > 4) {
            if (row + 4 <= n_rows) {
                tile(std::integral_constant<int, 4>(), One(), row, lane);
                row += 4;
            }
        }
        if constexpr (kRows > 2) {
            for (; row + 2 <= n_rows; row += 2) {
                tile(std::integral_constant<int, 2>(), One(), row, lane);
            }
        }
        if (row < n_rows) {
            tile(One(), One(), row, lane);
        }
    }
}

// Up to kGroupRows rows, their terms `row_step` values apart, and a part of a panel.
template <class T>
struct GroupProduct {
    const T* const* rows;
    std::int64_t n_rows, row_step;
    const T* panel;
    std::int64_t depth;
    PanelPart part;
    SumsStart<T> start;
};

// Their sums: those of a slice are (kGroupRows, kVectors * lanes). In gemm_cpu.cpp, so that tiles
// are compiled once and not for every op.
template <int kVectors, class T>
void group_sums(const GroupProduct<T>& product, T* sums);

// The same for one row and two panels of whole vectors: with the sums of one panel alone, each
// multiply-add would wait for the one before it. The sums of `next` lie kVectors packed vectors
// behind the first's.
template <int kVectors, class T>
void row_sums(const GroupProduct<T>& product, const GroupProduct<T>& next, T* sums);

template <class T, class Op>
HWY_INLINE GroupProduct<T> group_of_rows(const Op& op, const T* const* rows, std::int64_t row0,
                                         std::int64_t n_rows, const T* panel, std::int64_t depth,
                                         const PanelPart& part) {
    SumsStart<T> start = op.start();
    if (start.rows != nullptr) {
        start.rows += row0;
    }
    return {rows + row0, n_rows, RowStep<Op>::of(op), panel, depth, part, start};
}

// All rows against a part of a panel, of kVectors packed vectors.
template <int kVectors, class T, class Op>
HWY_INLINE void multiply_panel(const Op& op, const T* const* rows, std::int64_t n_rows,
                               const T* panel, std::int64_t depth,
                               const PanelPart& part = whole_panel<kVectors, T>()) {
    if constexpr (Selects<Op>::value) {
        for_each_tile<kVectors, T>(
            n_rows, part, [&](auto tile_rows, auto slices, std::int64_t row, std::int64_t lane) {
                select_tile<decltype(tile_rows)::value, decltype(slices)::value, kVectors>(
                    op, rows, row, panel, depth, lane);
            });
    } else {
        alignas(kCacheLine) T sums[kGroupRows * kVectors * kPackedLanes<T>];
        for (std::int64_t row0 = 0; row0 < n_rows; row0 += kGroupRows) {
            const std::int64_t in_group = std::min(kGroupRows, n_rows - row0);
            group_sums<kVectors>(group_of_rows(op, rows, row0, in_group, panel, depth, part), sums);
            for (std::int64_t lane = part.first_lane; lane < part.last_lane;
                 lane += lane_count<T>()) {
                finish_rows<kVectors>(op, sums + lane * kGroupRows * kVectors, row0, in_group,
                                      lane);
            }
        }
    }
}

// One row against two panels of whole vectors.
template <int kVectors, class T, class Op>
HWY_INLINE void multiply_two_panels(const Op& op, const Op& next_op, const T* const* row,
                                    const T* panel, const T* next_panel, std::int64_t depth) {
    constexpr PanelPart kWhole = whole_panel<kVectors, T>();
    alignas(kCacheLine) T sums[2 * kWhole.step];
    row_sums<kVectors>(group_of_rows(op, row, 0, 1, panel, depth, kWhole),
                       group_of_rows(next_op, row, 0, 1, next_panel, depth, kWhole), sums);
    finish_rows<kVectors>(op, sums, 0, 1, 0);
    finish_rows<kVectors>(next_op, sums + kWhole.step, 0, 1, 0);
}

// `n` rounded up to whole vectors of this target.
template <class T>
HWY_INLINE std::int64_t in_whole_vectors(std::int64_t n) {
    constexpr std::int64_t kLanes = lane_count<T>();
    return (n + kLanes - 1) / kLanes * kLanes;
}

// Lanes of the panel's last vector that are computed, the others hold no columns.
template <class T>
HWY_INLINE std::int64_t used_lanes(const PackedPanels<T>& panels, std::int64_t panel) {
    return in_whole_vectors<T>(panels.lanes_in(panel));
}

// The first `depth` terms of all rows against all panels of a gated matrix, where a panel is one
// block of units. `op.part(block)` is the op for one block. Steps that alternate the direction find
// the panel that the step before ended with in L1.
template <int kGates, class T, class Op>
HWY_INLINE void multiply_gates(const Op& op, const T* const* rows, std::int64_t n_rows,
                               std::int64_t depth, const PackedPanels<T>& panels, bool backwards) {
    const std::int64_t n = panels.n_panels();
    std::int64_t i = 0;
    if constexpr (lane_count<T>() == kPackedLanes<T>) {
        for (; n_rows == 1 && i + 2 <= n; i += 2) {
            const std::int64_t block = backwards ? n - 2 - i : i;
            multiply_two_panels<kGates>(op.part(block), op.part(block + 1), rows,
                                        panels.panel(block), panels.panel(block + 1), depth);
        }
    }
    for (; i < n; ++i) {
        const std::int64_t block = backwards ? n - 1 - i : i;
        multiply_panel<kGates>(op.part(block), rows, n_rows, panels.panel(block), depth,
                               {0, used_lanes(panels, block), kGates * kPackedLanes<T>});
    }
}

// The same for a plain matrix, where a panel is up to four blocks of columns and `op.part` gets the
// first of them.
template <class T, class Op>
HWY_INLINE void multiply_plain(const Op& op, const T* const* rows, std::int64_t n_rows,
                               std::int64_t depth, const PackedPanels<T>& panels) {
    for (std::int64_t p = 0; p < panels.n_panels(); ++p) {
        const auto part = op.part(p * kMaxPanelVectors);
        const T* panel = panels.panel(p);
        const auto multiply = [&](std::int64_t vectors, const PanelPart& lanes) {
            switch (vectors) {
                case 4: return multiply_panel<4>(part, rows, n_rows, panel, depth, lanes);
                case 3: return multiply_panel<3>(part, rows, n_rows, panel, depth, lanes);
                case 2: return multiply_panel<2>(part, rows, n_rows, panel, depth, lanes);
                case 1: return multiply_panel<1>(part, rows, n_rows, panel, depth, lanes);
                default: return;
            }
        };
        // Beyond its lanes the last vector takes no part.
        const std::int64_t vectors = panels.vectors_in(p), used = used_lanes(panels, p);
        const std::int64_t step = vectors * kPackedLanes<T>;
        const PanelPart parts[] = {{0, used, step}, {used, kPackedLanes<T>, step}};
        const int n_parts = used < kPackedLanes<T> ? 2 : 1;
        for (int i = 0; i < n_parts; ++i) {
            multiply(vectors - i, parts[i]);
        }
    }
}

template <class T, class Op>
HWY_INLINE void multiply_plain(const Op& op, const T* const* rows, std::int64_t n_rows,
                               const PackedPanels<T>& panels) {
    multiply_plain(op, rows, n_rows, panels.depth(), panels);
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
