// 8-bit dot products with AVX-512 VNNI.
#include <immintrin.h>

#include "cpu/dot_backends.h"

#pragma GCC push_options
#pragma GCC target("avx512f,avx512vnni")
namespace seqrec_fast {
namespace dot_int8_avx512_vnni {

struct Isa {
    using Sum = __m512i;
    using Weight = __m512i;
    using Row = __m512i;
    static constexpr int kLanes = 16;
    static constexpr int kAccumulators = 24;

    static Sum start(const std::int32_t* p) { return _mm512_loadu_si512(p); }
    static Weight load(const std::uint32_t* p) { return _mm512_loadu_si512(p); }
    static Row broadcast(std::uint32_t word) {
        return _mm512_set1_epi32(static_cast<std::int32_t>(word));
    }
    // The instruction by name: compilers copy the sums of the intrinsic from register to register,
    // and to memory when there are many.
    static Sum dot(Sum sum, Row a, Weight w) {
        asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(w));
        return sum;
    }
    static void store(void* p, Sum sum) { _mm512_storeu_si512(p, sum); }

    using Items = __m512i;
    static constexpr std::int32_t kCodeOffset = 0;
    static constexpr std::int64_t kRowsFromHalves = 2;

    static Items items(const std::uint32_t* p) { return load(p); }
    static Sum dot_items(Sum sum, Items codes, Row row) { return dot(sum, codes, row); }
    static Sum zero() { return _mm512_setzero_si512(); }
    static Sum start_items(const float* bias, float scale) {
        const __m512 units = _mm512_mul_ps(_mm512_loadu_ps(bias), _mm512_set1_ps(scale));
        const __m512 least = _mm512_set1_ps(kLeastStart);  // also for NaN
        return _mm512_maskz_cvtps_epi32(0xffff, _mm512_maskz_max_ps(0xffff, units, least));
    }
    static std::uint32_t at_least(Sum sum, std::int32_t threshold) {
        return _mm512_cmpge_epi32_mask(sum, _mm512_set1_epi32(threshold));
    }
};

#include "cpu/dot_tiles-inl.h"
#include "cpu/scan_tiles-inl.h"

}  // namespace dot_int8_avx512_vnni
}  // namespace seqrec_fast
#pragma GCC pop_options

namespace seqrec_fast {
const DotBackend kDotInt8Avx512Vnni = {
    "avx512_vnni",
    DotType::int8,
    Target::avx512,
    [] { return cpu_supports(Target::avx512) && __builtin_cpu_supports("avx512vnni") != 0; },
    128,
    no_dot_setup,
    no_dot_setup,
    dot_int8_avx512_vnni::multiply,
    dot_int8_avx512_vnni::scan,
    dot_int8_avx512_vnni::Isa::kCodeOffset,
    dot_int8_avx512_vnni::Isa::kRowsFromHalves};
}  // namespace seqrec_fast
