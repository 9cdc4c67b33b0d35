// bfloat16 dot products and rounding with AVX512_BF16.
#include <immintrin.h>

#include <algorithm>

#include "cpu/dot_backends.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bf16")
namespace seqrec_fast {
namespace dot_bf16_avx512 {

struct Isa {
    using Sum = __m512;
    using Weight = __m512i;
    using Row = __m512i;
    static constexpr int kLanes = 16;
    static constexpr int kAccumulators = 24;

    static Sum start(const std::int32_t*) { return _mm512_setzero_ps(); }
    static Weight load(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
    static Row broadcast(std::uint32_t word) {
        return _mm512_set1_epi32(static_cast<std::int32_t>(word));
    }
    // By name, as in dot_int8_avx512_vnni.cpp.
    static Sum dot(Sum sum, Row a, Weight w) {
        asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(w));
        return sum;
    }
    static void store(void* p, Sum sum) { _mm512_storeu_ps(p, sum); }
};

#include "cpu/dot_tiles-inl.h"

inline __mmask16 first_lanes(std::int64_t n) {
    return static_cast<__mmask16>((1U << std::min<std::int64_t>(n, 16)) - 1);
}

}  // namespace dot_bf16_avx512

// Numbers below the smallest normal one become zeros, as in the products.
void round_by_avx512_bf16(const float* from, std::int64_t n, std::uint16_t* to) {
    std::int64_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m512bh both =
            _mm512_cvtne2ps_pbh(_mm512_loadu_ps(from + i + 16), _mm512_loadu_ps(from + i));
        _mm512_storeu_si512(to + i, reinterpret_cast<__m512i>(both));
    }
    for (; i < n; i += 16) {
        const __mmask16 lanes = dot_bf16_avx512::first_lanes(n - i);
        const __m256bh half = _mm512_cvtneps_pbh(_mm512_maskz_loadu_ps(lanes, from + i));
        _mm512_mask_cvtepi32_storeu_epi16(
            to + i, lanes, _mm512_maskz_cvtepu16_epi32(0xffff, reinterpret_cast<__m256i>(half)));
    }
}

void round_pair_by_avx512_bf16(const float* first, const float* second, std::int64_t n,
                               std::uint32_t* words) {
    for (std::int64_t i = 0; i < n; i += 16) {
        const __mmask16 lanes = dot_bf16_avx512::first_lanes(n - i);
        const auto half = [&](const float* row) __attribute__((always_inline)) {
            const __m512 values =
                row == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(lanes, row + i);
            return _mm512_maskz_cvtepu16_epi32(
                0xffff, reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(values)));
        };
        const __m512i pair =
            _mm512_or_si512(half(first), _mm512_maskz_slli_epi32(0xffff, half(second), 16));
        _mm512_mask_storeu_epi32(words + i, lanes, pair);
    }
}
}  // namespace seqrec_fast
#pragma GCC pop_options

namespace seqrec_fast {
bool has_avx512_bf16() {
    return cpu_supports(Target::avx512) && cpuid_bit(7, 1, CpuidRegister::eax, 5);
}

const DotBackend kDotBf16Avx512 = {"avx512_bf16",
                                   DotType::bfloat16,
                                   Target::avx512,
                                   has_avx512_bf16,
                                   0,
                                   no_dot_setup,
                                   no_dot_setup,
                                   dot_bf16_avx512::multiply,
                                   nullptr,
                                   0,
                                   0,
                                   127,
                                   0,
                                   round_by_avx512_bf16,
                                   round_pair_by_avx512_bf16};
}  // namespace seqrec_fast
