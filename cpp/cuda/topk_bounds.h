// By how much a product in bfloat16 may differ from a score.
//
// q and x are rounded to q' and x'. Of the true products, by Cauchy-Schwarz,
//     |q.x - q'.x'| <= |q - q'| |x| + |q'| |x - x'|
// where the norms of what rounding took are measured: about a third of what it may take, 2^-8. The
// rest is relative to |q| |x| + |bias|: the chain of the score, (dim + 2) 2^-24; tensor cores,
// which cut off sums of 16 products and what they are added to, 17 * 2^-22 for each of dim / 16 +
// 1; bias and comparison, 2^-20. Together less than half of rounding_share(dim). Products below the
// smallest normal number, which may become 0, change a sum by less than kLeast.
// So: score >= floor implies  q'.x' + raised(bias) >= floor - kLeast - norm_share |x| - |q'|
// |x-x'|.
//
// No sum can overflow, as norms are below 1e18 and biases below 1e30; other items survive in any
// case, and other queries are asked without tensor cores. NaN of an item is never in an answer.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

#include "cuda/row_vectors.h"
#include "cuda/tensor_core.h"
#include "cuda/unroll.h"

namespace seqrec_fast {
namespace cuda {

constexpr float kLeast = 1e-28f;
// Of sums of squares, and of biases.
constexpr float kMostSquare = 1e36f, kMostBias = 1e30f;

SEQREC_FN float rounding_share(std::int64_t dim) {
    return static_cast<float>(dim + 32) * 0x1p-20f;
}

// At least the norm, of a sum of squares each of which may have been below the normal numbers.
SEQREC_FN float norm_of(float squares, std::int64_t dim) {
    const auto terms = static_cast<float>(dim);
    return std::sqrt(squares) * (1.001f + terms * 0x1p-23f) + terms * 1.1e-19f;
}

SEQREC_FN float raised(float bias, std::int64_t dim) {
    const float share = rounding_share(dim);
    if (!(bias == bias)) {
        return -std::numeric_limits<float>::infinity();
    }
    return bias * (bias > 0 ? 1 + share : 1 - share);
}

// 8 terms of a row as tensor cores take them: pairs of bfloat16. What would become 0 or infinite
// is 0, and its rounding error all of it.
struct RoundedTerms {
    std::uint32_t pairs[4];
};

// Squares of a row and of what rounding took from it; the lanes that share it add them.
struct RowSquares {
    float values = 0, residuals = 0;

    // Terms [at, at + 8) of `row`, zeros beyond dim or if there is none.
    template <int N>
    SEQREC_FN RoundedTerms round(const float* row, std::int64_t at, std::int64_t dim) {
        float terms[8];
        SEQREC_UNROLL
        for (int i = 0; i < 8; i += N) {
            RowVector<float, N> part{};
            if (row != nullptr && at + i < dim) {
                part = RowVector<float, N>::load(row + at + i);
            }
            SEQREC_UNROLL
            for (int j = 0; j < N; ++j) {
                terms[i + j] = part.values[j];
            }
        }
        RoundedTerms result;
        SEQREC_UNROLL
        for (int i = 0; i < 8; ++i) {
            const float size = std::fabs(terms[i]);
            const bool fits = size >= std::numeric_limits<float>::min() && size <= 1e30f;
            const std::uint16_t bits = fits ? round_to_bfloat16(terms[i]) : std::uint16_t{0};
            const float residual = terms[i] - widen_bfloat16(bits);
            values = std::fma(terms[i], terms[i], values);
            residuals = std::fma(residual, residual, residuals);
            const std::uint32_t pair = static_cast<std::uint32_t>(bits) << (i % 2 * 16);
            result.pairs[i / 2] = i % 2 == 0 ? pair : result.pairs[i / 2] | pair;
        }
        return result;
    }
    // Over the four lanes of a row.
    SEQREC_FN void add_lanes() {
        SEQREC_UNROLL
        for (int bits = 1; bits < 4; bits *= 2) {
            values += __shfl_xor_sync(kAllLanes, values, bits);
            residuals += __shfl_xor_sync(kAllLanes, residuals, bits);
        }
    }
};

}  // namespace cuda
}  // namespace seqrec_fast
