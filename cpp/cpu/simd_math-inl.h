// The vector arithmetic that cell formulas are written in (policy M of cells/*-inl.h).

// Per-target include guard
#if defined(SEQREC_CPU_SIMD_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_SIMD_MATH_INL_H_
#undef SEQREC_CPU_SIMD_MATH_INL_H_
#else
#define SEQREC_CPU_SIMD_MATH_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "cpu/packed_panels.h"
#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Vectors of this target, never wider than a packed vector.
template <class T>
using Lanes = hn::CappedTag<T, kCacheLine / sizeof(T)>;

template <class T>
HWY_INLINE constexpr std::int64_t lane_count() {
    return static_cast<std::int64_t>(hn::MaxLanes(Lanes<T>()));
}

template <class Tag>
struct SimdMath {
    using T = hn::TFromD<Tag>;
    using V = hn::Vec<Tag>;

    static HWY_INLINE V set(double value) { return hn::Set(Tag(), static_cast<T>(value)); }
    static HWY_INLINE V add(V a, V b) { return hn::Add(a, b); }
    static HWY_INLINE V sub(V a, V b) { return hn::Sub(a, b); }
    static HWY_INLINE V mul(V a, V b) { return hn::Mul(a, b); }
    static HWY_INLINE V div(V a, V b) { return hn::Div(a, b); }
    static HWY_INLINE V abs(V x) { return hn::Abs(x); }
    static HWY_INLINE V sqrt(V x) { return hn::Sqrt(x); }
    static HWY_INLINE V log1p(V x) { return hn::Log1p(Tag(), x); }
    // a * b + c and c - a * b
    static HWY_INLINE V mul_add(V a, V b, V c) { return hn::MulAdd(a, b, c); }
    static HWY_INLINE V neg_mul_add(V a, V b, V c) { return hn::NegMulAdd(a, b, c); }
    // NaN stays NaN, as in PyTorch.
    static HWY_INLINE V relu(V x) { return hn::IfThenElse(hn::Lt(x, set(0)), set(0), x); }
    static HWY_INLINE V zero_unless_positive(V test, V x) {
        return hn::IfThenElseZero(hn::Gt(test, set(0)), x);
    }
    // float32: within 2.5 ULP. exp(-x) is 2^n e^-r with r = x + n ln 2.
    static HWY_INLINE V sigmoid(V x) {
        x = at_least(-kMaxExponent, at_most(kMaxExponent, x));
        if constexpr (sizeof(T) == 8) {
            return hn::Div(set(1), hn::Add(set(1), exp_up_to(kMaxExponent, hn::Neg(x))));
        } else {
            const Power two = power_of_two(neg_mul_add(x, set(kLog2E), set(kShift)));
            const V r = mul_add(two.n, set(kLn2), x);
            V p = neg_mul_add(exp_tail<true>(r), r, set(1));
            p = neg_mul_add(p, r, set(1));
            return hn::Div(set(1), mul_add(p, two.value, set(1)));
        }
    }
    // float32: within 3 ULP. e / (e + 2) with e = exp(2x) - 1 = 2^n (e^r - 1) + (2^n - 1), which
    // has the relative accuracy of e^r - 1 near 0.
    static HWY_INLINE V tanh(V x) {
        if constexpr (sizeof(T) == 8) {
            return hn::IfThenElse(hn::IsNaN(x), x, hn::Tanh(Tag(), x));
        } else {
            x = at_least(-10, at_most(10, x));  // beyond 9.02 it is 1
            x = hn::Add(x, x);
            const Power two = power_of_two(mul_add(x, set(kLog2E), set(kShift)));
            const V r = neg_mul_add(two.n, set(kLn2), x);
            const V rest = mul_add(exp_tail<false>(r), hn::Mul(r, r), r);
            const V e = mul_add(two.value, rest, hn::Sub(two.value, set(1)));
            return hn::Div(e, hn::Add(e, set(2)));
        }
    }

    // exp(x) for x up to 0; below the smallest normal number 0.
    static HWY_INLINE V exp_of_negative(V x) {
        constexpr double kLeast = sizeof(T) == 4 ? -87 : -708;
        return hn::IfThenZeroElse(hn::Lt(x, set(kLeast)), exp_up_to(0, x));
    }

    // Infinities become the largest finite numbers; NaN stays NaN.
    static HWY_INLINE V clamp_to_finite(V x) {
        constexpr double kLargest = static_cast<double>(std::numeric_limits<T>::max());
        return at_least(-kLargest, at_most(kLargest, x));
    }

  private:
    // Beyond it 1 / (1 + exp(x)) is 0 to within the smallest normal number.
    static constexpr double kMaxExponent = sizeof(T) == 4 ? 87 : 706;

    static constexpr double kLog2E = 1.4426950408889634, kLn2 = 0.6931471805599453;
    // A float32 sum with 1.5 * 2^23 has its integer part in its last bits; 127 more make it the
    // exponent of a power of two.
    static constexpr double kShift = 12582912 + 127;
    struct Power {
        V n, value;  // 2^n
    };
    static HWY_INLINE Power power_of_two(V shifted) {
        const Tag d;
        const hn::RebindToSigned<Tag> di;
        return {hn::Sub(shifted, set(kShift)),
                hn::BitCast(d, hn::ShiftLeft<23>(hn::BitCast(di, shifted)))};
    }
    // (e^s - 1 - s) / s^2 with s = r, or -r, for |r| up to ln 2 / 2: minimax, 3.1e-9 of e^s.
    template <bool kNegated>
    static HWY_INLINE V exp_tail(V r) {
        const auto next = [&](V p, double c) HWY_ATTR {
            return kNegated ? neg_mul_add(p, r, set(c)) : mul_add(p, r, set(c));
        };
        V p = next(set(0.0013814598474162106), 0.00836871688731765);
        p = next(p, 0.04166838804883945);
        p = next(p, 0.16666520631627443);
        return next(p, 0.4999999344777903);
    }

    // NaN stays NaN: SIMD minima and maxima give their second argument then, or NaN; Highway's
    // scalar ones do not.
    static HWY_INLINE V at_most(double limit, V x) {
#if HWY_TARGET == HWY_SCALAR
        return hn::IfThenElse(hn::Gt(x, set(limit)), set(limit), x);
#else
        return hn::Min(set(limit), x);
#endif
    }
    static HWY_INLINE V at_least(double limit, V x) {
#if HWY_TARGET == HWY_SCALAR
        return hn::IfThenElse(hn::Lt(x, set(limit)), set(limit), x);
#else
        return hn::Max(set(limit), x);
#endif
    }

    // exp(min(x, limit)), NaN for NaN, within 1 ULP; a third quicker than Highway's, which also
    // covers results that are not normal numbers.
    static HWY_INLINE V exp_up_to(double limit, V x) {
        x = at_most(limit, x);
        if constexpr (sizeof(T) == 8) {
            return hn::IfThenElse(hn::IsNaN(x), x, hn::Exp(Tag(), x));
        } else {
            x = at_least(-87, x);
            const Power two = power_of_two(mul_add(x, set(kLog2E), set(kShift)));
            // ln 2 in two parts, the first with zeros at its end, so that n times it is exact
            V r = neg_mul_add(two.n, set(0.693145751953125), x);
            r = neg_mul_add(two.n, set(1.42860682030941723212e-6), r);
            const V p = mul_add(exp_tail<false>(r), hn::Mul(r, r), r);
            return hn::Mul(hn::Add(p, set(1)), two.value);
        }
    }
};

// The first n lanes of p, zeros in the others; never reads past the row. Where a target has no
// masks that cost nothing, through the stack: only the tail of a row is shorter than a vector.
template <class Tag>
HWY_INLINE hn::Vec<Tag> load_part(Tag d, const hn::TFromD<Tag>* p, std::int64_t n) {
    constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(Tag()));
    if (HWY_LIKELY(n >= kLanes)) {
        return hn::LoadU(d, p);
    }
    n = std::max<std::int64_t>(n, 0);
    if constexpr (HWY_TARGET == HWY_AVX3) {
        return hn::MaskedLoad(hn::FirstN(d, static_cast<std::size_t>(n)), d, p);
    }
    alignas(kCacheLine) hn::TFromD<Tag> part[kLanes] = {};
    for (std::int64_t i = 0; i < n; ++i) {
        part[i] = p[i];
    }
    return hn::Load(d, part);
}

template <class Tag>
HWY_INLINE void store_part(hn::Vec<Tag> v, Tag d, hn::TFromD<Tag>* p, std::int64_t n) {
    constexpr std::int64_t kLanes = static_cast<std::int64_t>(hn::MaxLanes(Tag()));
    if (HWY_LIKELY(n >= kLanes)) {
        hn::StoreU(v, d, p);
        return;
    }
    n = std::max<std::int64_t>(n, 0);
    if constexpr (HWY_TARGET == HWY_AVX3) {
        hn::BlendedStore(v, hn::FirstN(d, static_cast<std::size_t>(n)), d, p);
        return;
    }
    alignas(kCacheLine) hn::TFromD<Tag> part[kLanes];
    hn::Store(v, d, part);
    for (std::int64_t i = 0; i < n; ++i) {
        p[i] = part[i];
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
