// Values of arrays in float16 and bfloat16, to and from the float32 that kernels compute in; of
// other types as they are.
#pragma once

#include <cstdint>
#include <type_traits>

#include "base/bfloat16.h"
#include "base/half.h"
#include "cells/target_macros.h"
#include "cuda/simt.h"
#include "cuda/tensor_core.h"

namespace seqrec_fast {
namespace cuda {

template <class S>
constexpr bool kIsHalf = std::is_same_v<S, Bfloat16> || std::is_same_v<S, Float16>;

SEQREC_FN float widen(float value) {
    return value;
}
SEQREC_FN double widen(double value) {
    return value;
}

#if defined(__CUDACC__)

SEQREC_FN float widen(Bfloat16 value) {
    return __uint_as_float(static_cast<std::uint32_t>(value.bits) << 16);
}
SEQREC_FN float widen(Float16 value) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(value.bits));
    return wide;
}
SEQREC_FN std::uint16_t round_to_float16(float value) {
    std::uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}

#else

inline float widen(Bfloat16 value) {
    return from_bfloat16(value.bits);
}
inline float widen(Float16 value) {
    return from_float16(value.bits);
}
inline std::uint16_t round_to_float16(float value) {
    return to_float16(value);
}

#endif

// To the nearest, ties to even.
template <class S, class T>
SEQREC_FN S narrow(T value) {
    if constexpr (std::is_same_v<S, Bfloat16>) {
        return {round_to_bfloat16(value)};
    } else if constexpr (std::is_same_v<S, Float16>) {
        return {round_to_float16(value)};
    } else {
        return value;
    }
}

}  // namespace cuda
}  // namespace seqrec_fast
