// bfloat16 dot products with AVX512_BF16.
#include <immintrin.h>

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

}  // namespace dot_bf16_avx512
}  // namespace seqrec_fast
#pragma GCC pop_options

namespace seqrec_fast {
const DotBackend kDotBf16Avx512 = {
    "avx512_bf16",
    DotType::bfloat16,
    Target::avx512,
    [] { return cpu_supports(Target::avx512) && cpuid_bit(7, 1, CpuidRegister::eax, 5); },
    0,
    no_dot_setup,
    no_dot_setup,
    dot_bf16_avx512::multiply,
    nullptr,
    0,
    0};
}  // namespace seqrec_fast
