// Matrix products of a warp on tensor cores (mma.sync, compute capability 8.0), and the same on
// emulated threads.
#pragma once

#include <cstdint>
#include <cstring>

#include "base/bfloat16.h"
#include "base/half.h"
#include "cells/target_macros.h"
#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

// What a lane has of the three matrices, in PTX's layout; with q = lane / 4 and t = lane % 4:
//     A (16, 16)  a[0]: row q, columns 2t, 2t + 1    a[1]: row q + 8
//                 a[2], a[3]: the same, columns + 8
//     B (16, 8)   b[0]: rows 2t, 2t + 1, column q    b[1]: rows + 8
//     C (16, 8)   c[0], c[1]: row q, columns 2t, 2t + 1    c[2], c[3]: row q + 8
// Of a pair of bfloat16 or float16 the first is in the lower half.
struct alignas(16) FragmentA {
    std::uint32_t a[4];
};
struct alignas(8) FragmentB {
    std::uint32_t b[2];
};

#if defined(__CUDACC__)

// c += a b, of bfloat16, summed in float32.
SEQREC_FN void multiply_bfloat16(const FragmentA& a, const FragmentB& b, float (&c)[4]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.a[0]), "r"(a.a[1]), "r"(a.a[2]), "r"(a.a[3]), "r"(b.b[0]), "r"(b.b[1]));
}
// The same of float16.
SEQREC_FN void multiply_float16(const FragmentA& a, const FragmentB& b, float (&c)[4]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a.a[0]), "r"(a.a[1]), "r"(a.a[2]), "r"(a.a[3]), "r"(b.b[0]), "r"(b.b[1]));
}

// To the nearest, ties to even.
SEQREC_FN std::uint16_t round_to_bfloat16(float value) {
    std::uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

#else

// `widened`: of the bits of a factor.
template <class Widened>
void multiply_emulated(const FragmentA& a, const FragmentB& b, float (&c)[4],
                       const Widened& widened) {
    std::uint32_t all_a[32][4], all_b[32][2];
    const unsigned char* lanes = simt::exchange(kAllLanes, &a, sizeof a);
    std::memcpy(all_a, lanes, sizeof all_a);
    lanes = simt::exchange(kAllLanes, &b, sizeof b);
    for (int lane = 0; lane < kWarp; ++lane) {
        std::memcpy(all_b[lane], lanes + lane * 16, sizeof all_b[lane]);
    }
    const auto half = [&](std::uint32_t pair, int k) {
        return widened(static_cast<std::uint16_t>(k % 2 == 0 ? pair : pair >> 16));
    };
    const int lane = static_cast<int>(simt::lane()), q = lane / 4, t = lane % 4;
    for (int i = 0; i < 4; ++i) {
        const int column = 2 * t + i % 2;
        for (int k = 0; k < 16; ++k) {
            const int from = k % 8 / 2, upper = k / 8;
            c[i] += half(all_a[q * 4 + from][i / 2 + 2 * upper], k) *
                    half(all_b[column * 4 + from][upper], k);
        }
    }
}

inline void multiply_bfloat16(const FragmentA& a, const FragmentB& b, float (&c)[4]) {
    multiply_emulated(a, b, c, from_bfloat16);
}
inline void multiply_float16(const FragmentA& a, const FragmentB& b, float (&c)[4]) {
    multiply_emulated(a, b, c, from_float16);
}

inline std::uint16_t round_to_bfloat16(float value) {
    return to_bfloat16(value);
}

#endif

SEQREC_FN float widen_bfloat16(std::uint16_t bits) {
    const std::uint32_t wide = static_cast<std::uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof(value));
    return value;
}

}  // namespace cuda
}  // namespace seqrec_fast
