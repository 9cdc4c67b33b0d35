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
    static Sum dot(Sum sum, Row a, Weight w) { return _mm512_dpbusd_epi32(sum, a, w); }
    static void store(void* p, Sum sum) { _mm512_storeu_si512(p, sum); }
};

#include "cpu/dot_tiles-inl.h"

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
    dot_int8_avx512_vnni::multiply};
}  // namespace seqrec_fast
