// Rows times a packed matrix in whatever precision it is packed: the register tiles of gemm-inl.h,
// or rows rounded to bfloat16 or 8 bits, a dot-product back end, and the same op on its sums.

// Per-target include guard
#if defined(SEQREC_CPU_DOT_PRODUCT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_DOT_PRODUCT_INL_H_
#undef SEQREC_CPU_DOT_PRODUCT_INL_H_
#else
#define SEQREC_CPU_DOT_PRODUCT_INL_H_
#endif

#include <cstring>
#include <type_traits>

#include "base/workspace.h"
#include "cpu/gemm-inl.h"
#include "cpu/packed_matrix.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// How the 8-bit values of a row are scaled: for magnitudes up to 1 (states), or by the row's own
// largest magnitude (inputs).
enum class RowRange { unit, dynamic };

// Bits whose upper halves are the values as bfloat16, to the nearest, ties to even; NaN stays NaN.
HWY_INLINE hn::Vec<Lanes<std::uint32_t>> rounded_to_bfloat16(hn::Vec<Lanes<float>> value) {
    const Lanes<std::uint32_t> du;
    const auto bits = hn::BitCast(du, value);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(du, 1));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(du, 0x7fff)));
    const auto quiet = hn::Or(bits, hn::Set(du, 0x400000));
    return hn::IfThenElse(hn::RebindMask(du, hn::IsNaN(value)), quiet, rounded);
}

// Writes n values as bfloat16.
HWY_INLINE void round_to_bfloat16(const float* from, std::int64_t n, std::uint16_t* to) {
    const Lanes<float> d;
    const hn::Rebind<std::uint16_t, Lanes<std::uint32_t>> d16;
    for (std::int64_t i = 0; i < n; i += lane_count<float>()) {
        const auto rounded = rounded_to_bfloat16(load_part(d, from + i, n - i));
        const auto upper = hn::ShiftRight<16>(rounded);
        hn::StoreU(hn::TruncateTo(d16, upper), d16, to + i);
    }
}

// Writes n values as round(scale * value) + bias, in 8 bits.
HWY_INLINE void round_to_int8(const float* from, std::int64_t n, float scale, std::int32_t bias,
                              std::int8_t* to) {
    const Lanes<float> d;
    const hn::Rebind<std::int8_t, Lanes<float>> d8;
    const hn::RebindToUnsigned<decltype(d8)> du8;
    const auto flip = hn::Set(du8, static_cast<std::uint8_t>(bias));
    for (std::int64_t i = 0; i < n; i += lane_count<float>()) {
        const auto value = hn::Mul(load_part(d, from + i, n - i), hn::Set(d, scale));
        const auto q = hn::DemoteTo(d8, hn::NearestInt(value));
        // In two's complement adding 128 flips the highest bit.
        hn::StoreU(hn::BitCast(d8, hn::Xor(hn::BitCast(du8, q), flip)), d8, to + i);
    }
}

struct RowScale {
    float multiplier;  // value -> 8 bits
    float unit;        // what 1 stands for; NaN if the row has a value that is not finite
};

HWY_INLINE RowScale dynamic_scale(const float* row, std::int64_t n) {
    const Lanes<float> d;
    auto largest = hn::Zero(d), poison = hn::Zero(d);
    for (std::int64_t i = 0; i < n; i += lane_count<float>()) {
        const auto value = load_part(d, row + i, n - i);
        largest = hn::Max(largest, hn::Abs(value));
        poison = hn::MulAdd(value, hn::Zero(d), poison);  // 0, or NaN for NaN and infinity
    }
    const float most = hn::GetLane(hn::MaxOfLanes(d, largest));
    constexpr float kSmallest = 1e-30F;  // below it 127 / most would overflow
    const float unit = most / 127 + hn::GetLane(hn::SumOfLanes(d, poison));
    return {most > kSmallest ? 127 / most : 0.0F, unit};
}

// Rows as the back end reads them: padded to whole tiles.
struct DotRows {
    std::uint32_t* words;
    float* units;  // (n_rows), int8
};

HWY_INLINE void round_rows(const PackedDots& weights, const DotBackend& backend,
                           const float* const* rows, std::int64_t n_rows, std::int64_t depth,
                           RowRange range, const DotRows& out) {
    const std::int64_t stride = weights.words.depth();
    for (std::int64_t r = 0; r < n_rows; ++r) {
        std::uint32_t* words = out.words + r * stride;
        const std::int64_t full = depth / values_per_word(weights.type);
        std::fill(words + full, words + stride, 0U);
        if (weights.type == DotType::bfloat16) {
            auto* const halves = reinterpret_cast<std::uint16_t*>(words);
            if (backend.round != nullptr) {
                backend.round(rows[r], depth, halves);
            } else {
                round_to_bfloat16(rows[r], depth, halves);
            }
            continue;
        }
        const RowScale scale =
            range == RowRange::unit ? RowScale{127.0F, 1.0F / 127} : dynamic_scale(rows[r], depth);
        out.units[r] = scale.unit;
        round_to_int8(rows[r], depth, scale.multiplier, backend.bias,
                      reinterpret_cast<std::int8_t*>(words));
    }
}

// `op` on the sums of one panel, whose first packed vector is vector0.
template <int kVectors, class Op>
HWY_NOINLINE void finish_dots(const Op& op, const PackedDots& weights, std::int64_t vector0,
                              const void* sums, std::int64_t n_rows, const float* units) {
    constexpr std::int64_t kLanes = kPackedLanes<float>;
    const Lanes<float> d;
    const Lanes<std::int32_t> di;
    for (std::int64_t lane = 0; lane < kLanes; lane += lane_count<float>()) {
        finish_in_order(op, 0, n_rows, lane, [&](std::int64_t r) HWY_ATTR {
            hn::Vec<Lanes<float>> start[1][1][kVectors];
            op.start().load(r, lane, start);
            PanelSums<float, kVectors> row;
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t at = (r * kVectors + v) * kLanes + lane;
                const auto acc = start[0][0][v];
                if (weights.type == DotType::bfloat16) {
                    row.values[v] =
                        hn::Add(acc, hn::LoadU(d, static_cast<const float*>(sums) + at));
                } else {
                    const auto sum = hn::LoadU(di, static_cast<const std::int32_t*>(sums) + at);
                    const float* scales = weights.scales.data() + (vector0 + v) * kLanes + lane;
                    const auto scale = hn::Mul(hn::LoadU(d, scales), hn::Set(d, units[r]));
                    row.values[v] = hn::MulAdd(hn::ConvertTo(d, sum), scale, acc);
                }
            }
            return row;
        });
    }
}

// Scratch of multiply_dots, apart from that of the time loop around it.
inline Workspace& dot_workspace() {
    thread_local Workspace workspace;
    return workspace;
}

// `op` on the sums of neighbouring panels.
template <int kVectors, class Op>
HWY_INLINE void finish_dot_panels(const Op& op, const PackedDots& weights, const DotRows& rows,
                                  std::int64_t n_rows, std::int64_t first, std::int64_t n_panels,
                                  std::int64_t vectors_per_part, const void* sums) {
    constexpr std::int64_t kWidth = kVectors * kPackedLanes<float>;
    for (std::int64_t p = 0; p < n_panels; ++p) {
        const std::int64_t vector = first * weights.words.panel_vectors() + p * kVectors;
        finish_dots<kVectors>(op.part(vector / vectors_per_part), weights, vector,
                              static_cast<const float*>(sums) + p * n_rows * kWidth, n_rows,
                              rows.units);
    }
}

template <int kVectors, class Op>
HWY_INLINE void multiply_dot_panels(const Op& op, const PackedDots& weights,
                                    const DotBackend& backend, const DotRows& rows,
                                    std::int64_t n_rows, std::int64_t first, std::int64_t n_panels,
                                    std::int64_t vectors_per_part, void* sums) {
    const std::int64_t vector0 = first * weights.words.panel_vectors();
    const std::int32_t* offsets = weights.offsets.data();
    backend.multiply({rows.words, n_rows, weights.words.panel(first), n_panels, weights.depth,
                      weights.words.depth(), kVectors,
                      offsets == nullptr ? nullptr : offsets + vector0 * kPackedLanes<float>,
                      sums});
    finish_dot_panels<kVectors>(op, weights, rows, n_rows, first, n_panels, vectors_per_part, sums);
}

// All rows of `depth` values against all panels; a depth of 0 stands for rows of zeros. kGates > 1:
// a panel is one part of the op (a block of units); else a part begins at any packed vector.
template <int kGates, class Op>
HWY_INLINE void multiply_dots(const Op& op, const float* const* rows, std::int64_t n_rows,
                              std::int64_t depth, const PackedDots& weights, RowRange range) {
    const DotBackend& backend = DotSession::current(n_rows);
    const PackedPanels<std::uint32_t>& words = weights.words;
    const std::int64_t padded_rows = padded_to_dot_tiles(n_rows);
    // One row: all panels at once. More: the sums of one panel stay in L1.
    const std::int64_t whole = words.n_vectors() / words.panel_vectors();
    const std::int64_t step = n_rows == 1 ? whole : 1;
    const std::int64_t n_sums =
        (step * n_rows + kDotTile) * words.panel_vectors() * kPackedLanes<float> +
        padded_rows * words.panel_vectors() * kPackedLanes<float>;
    Workspace& workspace = dot_workspace();
    workspace.reserve(Workspace::bytes_for<std::uint32_t>(padded_rows * words.depth()) +
                      Workspace::bytes_for<float>(padded_rows) +
                      Workspace::bytes_for<float>(n_sums));
    const DotRows rounded{workspace.take<std::uint32_t>(padded_rows * words.depth()),
                          workspace.take<float>(padded_rows)};
    float* sums = workspace.take<float>(n_sums);
    round_rows(weights, backend, rows, n_rows, depth, range, rounded);
    if (depth == 0) {
        std::memset(sums, 0, static_cast<std::size_t>(n_sums) * sizeof(float));
    }
    constexpr std::int64_t kPerPart = kGates > 1 ? kGates : 1;
    for (std::int64_t panel = 0; panel < words.n_panels();) {
        const std::int64_t n = panel < whole ? std::min(step, whole - panel) : 1;
        const auto run = [&](auto vectors) {
            constexpr int kVectors = decltype(vectors)::value;
            if (depth == 0) {
                finish_dot_panels<kVectors>(op, weights, rounded, n_rows, panel, n, kPerPart, sums);
            } else {
                multiply_dot_panels<kVectors>(op, weights, backend, rounded, n_rows, panel, n,
                                              kPerPart, sums);
            }
        };
        if constexpr (kGates > 1) {
            run(std::integral_constant<int, kGates>());
        } else {
            switch (words.vectors_in(panel)) {
                case 4: run(std::integral_constant<int, 4>()); break;
                case 3: run(std::integral_constant<int, 3>()); break;
                case 2: run(std::integral_constant<int, 2>()); break;
                default: run(std::integral_constant<int, 1>()); break;
            }
        }
        panel += n;
    }
}

// As multiply_gates and multiply_plain of gemm-inl.h. A depth of 0 stands for rows of zeros.
template <int kGates, class T, class Op>
HWY_INLINE void multiply_gates(const Op& op, const T* const* rows, std::int64_t n_rows,
                               std::int64_t depth, const PackedMatrix<T>& matrix, RowRange range,
                               bool backwards = false) {
    if constexpr (std::is_same_v<T, float>) {
        if (matrix.reduced()) {
            return multiply_dots<kGates>(op, rows, n_rows, depth, matrix.dots, range);
        }
    }
    multiply_gates<kGates>(op, rows, n_rows, depth, matrix.panels, backwards);
}

template <class T, class Op>
HWY_INLINE void multiply_plain(const Op& op, const T* const* rows, std::int64_t n_rows,
                               std::int64_t depth, const PackedMatrix<T>& matrix, RowRange range) {
    if constexpr (std::is_same_v<T, float>) {
        if (matrix.reduced()) {
            return multiply_dots<1>(op, rows, n_rows, depth, matrix.dots, range);
        }
    }
    multiply_plain(op, rows, n_rows, depth, matrix.panels);
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
