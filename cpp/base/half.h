// The 16-bit floating-point types, as arrays have them: storage alone, arithmetic is in float32.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace seqrec_fast {

struct Bfloat16 {
    std::uint16_t bits;
};
struct Float16 {
    std::uint16_t bits;
};

// IEEE binary16 to the nearest, ties to even; NaN stays NaN.
inline std::uint16_t to_float16(float value) {
    const auto sign = static_cast<std::uint16_t>(std::signbit(value) ? 0x8000U : 0U);
    const float size = std::fabs(value);
    std::uint32_t result;
    if (std::isnan(value)) {
        result = 0x7e00U;
    } else if (size >= 65520.0F) {
        result = 0x7c00U;
    } else if (size < 0x1p-14F) {
        // Subnormal: multiples of 2^-24.
        result = static_cast<std::uint32_t>(std::nearbyint(size * 0x1p24F));
    } else {
        std::uint32_t bits;
        std::memcpy(&bits, &size, sizeof(bits));
        result = ((bits + 0xfffU + ((bits >> 13) & 1U)) >> 13) - (112U << 10);
    }
    return static_cast<std::uint16_t>(result | sign);
}

inline float from_float16(std::uint16_t bits) {
    const std::uint32_t exponent = bits >> 10 & 31U, fraction = bits & 0x3ffU;
    float size = static_cast<float>(fraction) * 0x1p-24F;
    if (exponent == 31) {
        size = fraction == 0 ? INFINITY : NAN;
    } else if (exponent > 0) {
        const std::uint32_t wide = (exponent + 112U) << 23 | fraction << 13;
        std::memcpy(&size, &wide, sizeof(size));
    }
    return (bits & 0x8000U) != 0 ? -size : size;
}

}  // namespace seqrec_fast
