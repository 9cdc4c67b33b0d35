// The arithmetic that cell formulas are written in (policy M of cells/*-inl.h), one value to a
// thread. The names are those of cpu/simd_math-inl.h.
#pragma once

#include <cmath>
#include <limits>

#include "cells/target_macros.h"
#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

template <class T>
struct DeviceMath {
    using V = T;

    static SEQREC_FN T set(double value) { return static_cast<T>(value); }
    static SEQREC_FN T add(T a, T b) { return a + b; }
    static SEQREC_FN T sub(T a, T b) { return a - b; }
    static SEQREC_FN T mul(T a, T b) { return a * b; }
    static SEQREC_FN T div(T a, T b) { return a / b; }
    static SEQREC_FN T abs(T x) { return std::fabs(x); }
    static SEQREC_FN T sqrt(T x) { return std::sqrt(x); }
    static SEQREC_FN T neg(T x) { return -x; }
    static SEQREC_FN T log(T x) { return std::log(x); }
    static SEQREC_FN T log1p(T x) { return std::log1p(x); }
    static SEQREC_FN T cos(T x) { return std::cos(x); }
    static SEQREC_FN T sin(T x) { return std::sin(x); }
    static SEQREC_FN T mul_add(T a, T b, T c) { return std::fma(a, b, c); }
    static SEQREC_FN T neg_mul_add(T a, T b, T c) { return std::fma(-a, b, c); }
    // NaN stays NaN, as in PyTorch.
    static SEQREC_FN T relu(T x) { return x < 0 ? T(0) : x; }
    static SEQREC_FN T zero_unless_positive(T test, T x) { return test > 0 ? x : T(0); }
    static SEQREC_FN T sigmoid(T x) { return 1 / (1 + std::exp(-x)); }
    static SEQREC_FN T tanh(T x) { return std::tanh(x); }
    // exp(x) for x up to 0; below the smallest normal number 0.
    static SEQREC_FN T exp_of_negative(T x) {
        constexpr T kLeast = sizeof(T) == 4 ? T(-87) : T(-708);
        return x < kLeast ? T(0) : std::exp(x);
    }
    // Infinities become the largest finite numbers; NaN stays NaN.
    static SEQREC_FN T clamp_to_finite(T x) {
        constexpr T kLargest = std::numeric_limits<T>::max();
        return x > kLargest ? kLargest : x < -kLargest ? -kLargest : x;
    }
};

// For sums of products of 16-bit factors, whose own rounding is far above what the GPU's fast
// exponential and division lose: sigmoid and tanh are within 3e-7.
struct FastMath : DeviceMath<float> {
    static SEQREC_FN float sigmoid(float x) {
#if defined(__CUDACC__)
        return __fdividef(1.0F, 1.0F + __expf(-x));
#else
        return DeviceMath<float>::sigmoid(x);
#endif
    }
    static SEQREC_FN float tanh(float x) { return std::fma(2.0F, sigmoid(2.0F * x), -1.0F); }
};

}  // namespace cuda
}  // namespace seqrec_fast
