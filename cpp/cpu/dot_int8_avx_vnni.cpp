// 8-bit dot products with AVX-VNNI, for processors that have it without AVX-512.
#include <immintrin.h>

#include "cpu/dot_backends.h"

#pragma GCC push_options
#pragma GCC target("avx2,avxvnni")
namespace seqrec_fast {
namespace dot_int8_avx_vnni {

struct Isa {
    using Sum = __m256i;
    using Weight = __m256i;
    using Row = __m256i;
    static constexpr int kLanes = 8;
    static constexpr int kAccumulators = 12;

    static Sum start(const std::int32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static Weight load(const std::uint32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static Row broadcast(std::uint32_t word) {
        return _mm256_set1_epi32(static_cast<std::int32_t>(word));
    }
    static Sum dot(Sum sum, Row a, Weight w) { return _mm256_dpbusd_avx_epi32(sum, a, w); }
    static void store(void* p, Sum sum) { _mm256_storeu_si256(static_cast<__m256i*>(p), sum); }
};

#include "cpu/dot_tiles-inl.h"

}  // namespace dot_int8_avx_vnni
}  // namespace seqrec_fast
#pragma GCC pop_options

namespace seqrec_fast {
const DotBackend kDotInt8AvxVnni = {"avx_vnni",
                                    DotType::int8,
                                    Target::avx2,
                                    [] { return cpu_supports(Target::avx2) && cpuid_bit(7, 1, CpuidRegister::eax, 4); },
                                    128,
                                    no_dot_setup,
                                    no_dot_setup,
                                    dot_int8_avx_vnni::multiply};
}  // namespace seqrec_fast
