// Fragments of bfloat16 matrices for tensor cores (cuda/tensor_core.h), from shared memory
// (ldmatrix) and from sums.
#pragma once

#include <cstdint>
#include <cstring>

#include "cells/target_macros.h"
#include "cuda/tensor_core.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

// Four matrices of 8 x 8: lane 8 m + i gives the address of row i of matrix m, 16 bytes, aligned.
// With q = lane / 4 and t = lane % 4, result m is of row q, columns 2 t and 2 t + 1, of matrix m;
// of the transposed matrix if kTransposed. Every lane of the warp takes part.
template <bool kTransposed>
SEQREC_FN FragmentA load_matrices(const std::uint16_t* row) {
    FragmentA result;
#if defined(__CUDACC__)
    const auto address = static_cast<unsigned>(__cvta_generic_to_shared(row));
    if constexpr (kTransposed) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                     : "=r"(result.a[0]), "=r"(result.a[1]), "=r"(result.a[2]), "=r"(result.a[3])
                     : "r"(address)
                     : "memory");
    } else {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                     : "=r"(result.a[0]), "=r"(result.a[1]), "=r"(result.a[2]), "=r"(result.a[3])
                     : "r"(address)
                     : "memory");
    }
#else
    const unsigned char* const given = simt::exchange(kAllLanes, &row, sizeof row);
    const int q = lane_index() / 4, t = lane_index() % 4;
    for (int m = 0; m < 4; ++m) {
        const auto value = [&](int i, int j) {
            const std::uint16_t* from;
            std::memcpy(&from, given + (m * 8 + i) * 16, sizeof from);
            return std::uint32_t{from[j]};
        };
        result.a[m] = kTransposed ? value(2 * t, q) | value(2 * t + 1, q) << 16
                                  : value(q, 2 * t) | value(q, 2 * t + 1) << 16;
    }
#endif
    return result;
}

// What a lane gives to load_matrices for the 16 x 16 values at `tile`, whose rows are `stride`
// apart: the matrices are the upper and lower left, then the upper and lower right ones. That is
// a fragment A of the tile.
SEQREC_FN const std::uint16_t* matrix_row(const std::uint16_t* tile, int stride) {
    const int lane = lane_index();
    return tile + lane % 16 * stride + lane / 16 * 8;
}

// A product of `left` with 16 columns: of a tile of 16 rows transposed (sums of products of rows
// with rows), or of a tile as it is, which is then loaded transposed. `sums`: two times 8 columns.
template <bool kAsItIs>
SEQREC_FN void multiply_tile(const FragmentA& left, const std::uint16_t* row, float (&first)[4],
                             float (&second)[4]) {
    const FragmentA m = load_matrices<kAsItIs>(row);
    // Columns are rows of the tile, or terms are.
    const FragmentB low{m.a[0], m.a[kAsItIs ? 1 : 2]}, high{m.a[kAsItIs ? 2 : 1], m.a[3]};
    multiply_bfloat16(left, low, first);
    multiply_bfloat16(left, high, second);
}

// Both to the nearest, ties to even; `low` in the lower half.
SEQREC_FN std::uint32_t round_pair_to_bfloat16(float low, float high) {
#if defined(__CUDACC__)
    std::uint32_t pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return std::uint32_t{round_to_bfloat16(low)} | std::uint32_t{round_to_bfloat16(high)} << 16;
#endif
}

// Sums of 16 columns, rounded, as the left side of another product.
SEQREC_FN FragmentA as_left(const float (&first)[4], const float (&second)[4]) {
    return {{round_pair_to_bfloat16(first[0], first[1]), round_pair_to_bfloat16(first[2], first[3]),
             round_pair_to_bfloat16(second[0], second[1]),
             round_pair_to_bfloat16(second[2], second[3])}};
}

}  // namespace cuda
}  // namespace seqrec_fast
