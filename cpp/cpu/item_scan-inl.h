// Which items of a block may matter to which queries, found by 8-bit codes.
//
// With x = x~ + (x - x~) and q = q~ + (q - q~), where ~ is what the codes stand for,
//     |q.x - q~.x~| <= |q| residual + |q - q~| (norm + residual)        (Cauchy-Schwarz)
// and q~.x~ is an exact integer sum times two scales. The float32 score differs from q.x by its own
// rounding, at most about dim 2^-24 |q| norm. So an item whose integer sum is below a threshold
// cannot reach a given score. All of it is computed in float64 per query and block.

// Per-target include guard
#if defined(SEQREC_CPU_ITEM_SCAN_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_ITEM_SCAN_INL_H_
#undef SEQREC_CPU_ITEM_SCAN_INL_H_
#else
#define SEQREC_CPU_ITEM_SCAN_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/workspace.h"
#include "cpu/dot_backends.h"
#include "cpu/packed_items.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Both halves of the codes, or the upper ones alone, which is half the memory.
enum class CodeBits { upper, all };

// The words of a block as the back ends read them: (padded depth, 64).
inline void decode_block(const PackedItems& items, std::int64_t block, CodeBits bits,
                         std::uint8_t* to) {
    const hn::ScalableTag<std::uint8_t> d;
    const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
    const auto lower = hn::Set(d, 0x0f);
    const std::int64_t pairs = word_pairs(items.dim);
    const std::uint8_t* high = items.high + block * pairs * kPairBytes;
    const std::uint8_t* low = items.low + block * pairs * kPairBytes;
    for (std::int64_t pair = 0; pair < pairs; ++pair, to += 2 * kPairBytes) {
        for (std::int64_t line = 0; line < kPairBytes; line += 64) {
            __builtin_prefetch(high + pair * kPairBytes + line + kCodeBytesAhead, 0, 2);
            if (bits == CodeBits::all) {
                __builtin_prefetch(low + pair * kPairBytes + line + kCodeBytesAhead, 0, 2);
            }
        }
        for (std::int64_t i = 0; i < kPairBytes; i += lanes) {
            const auto h = hn::LoadU(d, high + pair * kPairBytes + i);
            auto first = hn::And(h, lower), second = hn::ShiftRight<4>(h);
            if (bits == CodeBits::all) {
                const auto l = hn::LoadU(d, low + pair * kPairBytes + i);
                first = hn::Or(hn::ShiftLeft<4>(first), hn::And(l, lower));
                second = hn::Or(hn::AndNot(lower, h), hn::ShiftRight<4>(l));
            }
            hn::StoreU(first, d, to + i);
            hn::StoreU(second, d, to + kPairBytes + i);
        }
    }
}

// A tile of queries in 8-bit codes, and what it needs to pass over blocks.
class ItemScan {
  public:
    using D = hn::ScalableTag<double>;
    using V = hn::Vec<D>;

    static std::size_t bytes(std::int64_t dim, std::int64_t n_rows) {
        const std::int64_t rows = padded_to_dot_tiles(n_rows), depth = padded_depth(dim);
        return 7 * Workspace::bytes_for<double>(rows) +
               Workspace::bytes_for<std::uint32_t>(rows * depth) +
               Workspace::bytes_for<std::uint32_t>(depth * kItemBlock) +
               Workspace::bytes_for<std::int32_t>(rows * kItemBlock) +
               2 * Workspace::bytes_for<std::int32_t>(rows);
    }

    // `workspace` has room for bytes(...); `queries` are (n_rows, dim).
    ItemScan(const PackedItems& items, const float* queries, std::int64_t n_rows, CodeBits bits,
             Workspace& workspace)
        : items_(items),
          bits_(bits),
          n_rows_(n_rows),
          rows_(padded_to_dot_tiles(n_rows)),
          depth_(padded_depth(items.dim)),
          norms_(workspace.take<double>(rows_)),
          errors_(workspace.take<double>(rows_)),
          inverses_(workspace.take<double>(rows_)),
          zeros_(workspace.take<double>(rows_)),
          floors_(workspace.take<double>(rows_)),
          words_(workspace.take<std::uint32_t>(rows_ * depth_)),
          panel_(workspace.take<std::uint32_t>(depth_ * kItemBlock)),
          scales_(workspace.take<double>(rows_)),
          block_errors_(workspace.take<double>(rows_)),
          sums_(workspace.take<std::int32_t>(rows_ * kItemBlock)),
          thresholds_(workspace.take<std::int32_t>(rows_)),
          bias_scales_(reinterpret_cast<float*>(workspace.take<std::int32_t>(rows_))) {
        std::fill_n(words_, rows_ * depth_, 0U);
        std::fill_n(panel_, depth_ * kItemBlock, 0U);
        const std::int32_t offset = DotSession::current().code_offset;
        const double zero = (bits == CodeBits::all ? 128 : kUpperZero) - offset;
        for (std::int64_t r = 0; r < rows_; ++r) {
            if (r < n_rows) {
                encode_query(queries + r * items.dim, r, zero);
            } else {
                norms_[r] = errors_[r] = zeros_[r] = 0;
                scales_[r] = inverses_[r] = 1;
                floors_[r] = std::numeric_limits<double>::infinity();
            }
        }
    }

    // Bit i of hits[row]: item i of the block may score at least floors[row]. False if no item can,
    // and then hits are not written. Only the floors of `n_rows` rows are read.
    HWY_INLINE bool may_reach(std::int64_t block, const float* floors, std::uint64_t* hits) {
        std::copy_n(floors, n_rows_, floors_);
        return find(block, -1, hits);
    }
    // After may_reach for the same block and floors: those whose score is certainly greater.
    HWY_INLINE void certainly_exceed(std::int64_t block, std::uint64_t* hits) {
        const BlockBounds& bounds = items_.bounds[block];
        if (bounds.n_hopeless > 0 || !std::isfinite(bounds.residual)) {
            std::fill_n(hits, n_rows_, 0);  // no bound holds for all of them
            return;
        }
        find(block, +1, hits);
    }

    // Where the score of a hit lies, after may_reach for its block.
    struct Range {
        float lower, upper;
    };
    HWY_INLINE Range range(std::int64_t block, std::int64_t row, std::int64_t item) const {
        constexpr float kInfinity = std::numeric_limits<float>::infinity();
        if (items_.bounds[block].n_hopeless > 0 && is_hopeless(block, item)) {
            return {-kInfinity, -kInfinity};
        }
        const double unit =
            items_.bounds[block].scale * scales_[row] * (bits_ == CodeBits::upper ? 16 : 1);
        const double sum = sums_[row * kItemBlock + item];
        const double middle = (sum - zeros_[row]) * unit;
        // One unit for the rounding of the bias; then that of the results themselves.
        const double error = block_errors_[row] + unit + std::abs(middle) * 0x1p-22 + 0x1p-148;
        if (!(error < std::numeric_limits<float>::max())) {
            return {-kInfinity, kInfinity};
        }
        return {static_cast<float>(middle - error), static_cast<float>(middle + error)};
    }

  private:
    // In units of the upper half: 128 - 7.5 is the zero of the middles.
    static constexpr double kUpperZero = (128 - 7.5) / 16;
    static constexpr double kInt32Min = -2147483648.0, kInt32Max = 2147483647.0;

    static std::int64_t padded_depth(std::int64_t dim) {
        return padded_to_dot_tiles(2 * word_pairs(dim));
    }

    bool is_hopeless(std::int64_t block, std::int64_t item) const {
        const std::int64_t at = block * word_pairs(items_.dim) * kPairBytes + item * 4;
        const int code = (items_.high[at] & 0x0f) << 4 | (items_.low[at] & 0x0f);
        return code == kHopelessCode;
    }
    void encode_query(const float* query, std::int64_t row, double zero) {
        double peak = 0, norm = 0;
        bool finite = true;
        for (std::int64_t k = 0; k < items_.dim; ++k) {
            const double value = query[k];
            peak = std::max(peak, std::abs(value));
            norm += value * value;
            finite = finite && std::isfinite(query[k]);
        }
        const double scale = finite && peak > 0 ? peak / DotSession::current().largest_row_code : 1;
        double error = 0;
        std::int64_t sum = 0;
        auto* codes = reinterpret_cast<std::int8_t*>(words_ + row * depth_);
        for (std::int64_t k = 0; finite && k < items_.dim; ++k) {
            const double value = query[k];
            const long code = std::lrint(value / scale);
            codes[k] = static_cast<std::int8_t>(code);
            sum += code;
            const double rest = value - scale * static_cast<double>(code);
            error += rest * rest;
        }
        constexpr double kMore = 1 + 1e-12;
        norms_[row] = finite ? std::sqrt(norm) * kMore : std::numeric_limits<double>::infinity();
        errors_[row] = std::sqrt(error) * kMore;
        scales_[row] = scale;
        inverses_[row] = 1 / scale;
        zeros_[row] = zero * static_cast<double>(sum);
    }

    // side -1: sums that may belong to a score >= floor; +1: that certainly are > floor.
    HWY_INLINE bool find(std::int64_t block, int side, std::uint64_t* hits) {
        const BlockBounds& bounds = items_.bounds[block];
        const bool upper = bits_ == CodeBits::upper;
        const double residual = upper ? bounds.high_residual : bounds.residual;
        const double unit = bounds.scale * (upper ? 16 : 1);
        if (!set_thresholds(bounds, residual, 1 / unit, side)) {
            return false;
        }
        const bool halves = n_rows_ <= DotSession::current().rows_from_halves;
        if (side < 0 && !halves) {  // else the panel is there already
            decode_block(items_, block, bits_, reinterpret_cast<std::uint8_t*>(panel_));
        }
        const std::int64_t at = block * word_pairs(items_.dim) * kPairBytes;
        DotSession::current().scan(
            {words_, n_rows_, halves ? nullptr : panel_, 1, words_of(items_.dim), depth_,
             items_.bias == nullptr ? nullptr : items_.bias + block * kItemBlock, bias_scales_,
             thresholds_, items_.high + at, upper ? nullptr : items_.low + at, sums_, hits});
        const std::int64_t left = items_.n_items - block * kItemBlock;
        if (HWY_UNLIKELY(left < kItemBlock)) {
            for (std::int64_t r = 0; r < n_rows_; ++r) {
                hits[r] &= (std::uint64_t{1} << left) - 1;
            }
        }
        return true;
    }

    // False if no row can reach its floor in this block.
    HWY_INLINE bool set_thresholds(const BlockBounds& bounds, double residual, double inverse_unit,
                                   int side) {
        const D d;
        const hn::Rebind<std::int32_t, D> di;
        const hn::Rebind<float, D> df;
        const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
        // Of the float32 chain, of the bias and of its conversion to units, with room to spare.
        const double rounding = static_cast<double>(items_.dim + 4) * 0x1p-22;
        const double underflow = static_cast<double>(items_.dim + 4) * 0x1p-148;
        const V infinity = hn::Set(d, std::numeric_limits<double>::infinity());
        const V norm_error = hn::Set(d, residual + rounding * bounds.norm);
        const V query_error = hn::Set(d, bounds.norm + residual);
        const V fixed_error = hn::Set(d, rounding * bounds.bias + underflow);
        const V norm = hn::Set(d, bounds.norm), bias = hn::Set(d, bounds.bias);
        auto wanted = hn::FirstN(d, 0);
        for (std::int64_t r = 0; r < n_rows_; r += lanes) {
            const V query_norm = hn::LoadU(d, norms_ + r), floor = hn::LoadU(d, floors_ + r);
            const V most = hn::MulAdd(query_norm, norm, bias);
            V error = hn::MulAdd(query_norm, norm_error, fixed_error);
            error = hn::MulAdd(hn::LoadU(d, errors_ + r), query_error, error);
            // Beyond it a float32 score may be infinite where the true one is not.
            error = hn::IfThenElse(hn::Lt(most, hn::Set(d, 1e37)), error, infinity);
            const V scale = hn::Mul(hn::LoadU(d, inverses_ + r), hn::Set(d, inverse_unit));
            const V bound = side < 0 ? hn::Sub(floor, error) : hn::Add(floor, error);
            V threshold = hn::MulAdd(bound, scale, hn::LoadU(d, zeros_ + r));
            // One for the integer above, one for the rounding of the bias to units.
            threshold = side < 0 ? hn::Sub(hn::Floor(threshold), hn::Set(d, 1))
                                 : hn::Add(hn::Floor(threshold), hn::Set(d, 3));
            // Of a bias in units, and of its factor in float32.
            auto certain = hn::And(hn::Lt(hn::Mul(bias, scale), hn::Set(d, 0x1p27)),
                                   hn::Lt(scale, hn::Set(d, 0x1p127)));
            const V everything = hn::Set(d, side < 0 ? kInt32Min : kInt32Max);
            certain = hn::And(certain, hn::Eq(threshold, threshold));  // not NaN
            threshold = hn::IfThenElse(certain, threshold, everything);
            threshold = hn::Min(hn::Max(threshold, hn::Set(d, kInt32Min)), hn::Set(d, kInt32Max));
            // `most` has errors of its own, far below `error`; NaN counts as reachable.
            const auto out_of_reach = hn::Lt(hn::Add(most, error), floor);
            threshold = hn::IfThenElse(out_of_reach, hn::Set(d, kInt32Max), threshold);
            wanted = hn::Or(wanted, hn::Not(out_of_reach));
            hn::StoreU(hn::DemoteTo(di, threshold), di, thresholds_ + r);
            hn::StoreU(hn::IfThenElse(certain, error, infinity), d, block_errors_ + r);
            const V usable = hn::IfThenElse(certain, scale, hn::Zero(d));
            hn::StoreU(hn::DemoteTo(df, usable), df, bias_scales_ + r);
        }
        return !hn::AllFalse(d, wanted);
    }

    const PackedItems& items_;
    const CodeBits bits_;
    const std::int64_t n_rows_, rows_, depth_;
    double *norms_, *errors_, *inverses_, *zeros_, *floors_;
    std::uint32_t *words_, *panel_;
    double *scales_, *block_errors_;
    std::int32_t *sums_, *thresholds_;
    float* bias_scales_;
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
