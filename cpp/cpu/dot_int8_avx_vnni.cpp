// 8-bit dot products with AVX-VNNI, for processors that have it without AVX-512.
#include <immintrin.h>

#include "cpu/dot_backends.h"

#pragma GCC push_options
#pragma GCC target("avx2,avxvnni")
namespace seqrec_fast {
namespace dot_int8_avx_vnni {

#include "cpu/scan_256-inl.h"

struct Isa : ScanIn256Bits {
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
    // By name, as in dot_int8_avx512_vnni.cpp.
    static Sum dot(Sum sum, Row a, Weight w) {
        asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(w));
        return sum;
    }
    static void store(void* p, Sum sum) { _mm256_storeu_si256(static_cast<__m256i*>(p), sum); }

    using Items = __m256i;
    static constexpr std::int64_t kRowsFromHalves = 2;

    static Items items(const std::uint32_t* p) { return load(p); }
    static Sum dot_items(Sum sum, Items codes, Row row) { return dot(sum, codes, row); }
};

#include "cpu/dot_tiles-inl.h"
#include "cpu/scan_tiles-inl.h"

}  // namespace dot_int8_avx_vnni
}  // namespace seqrec_fast
#pragma GCC pop_options

namespace seqrec_fast {
const DotBackend kDotInt8AvxVnni = {
    "avx_vnni",
    DotType::int8,
    Target::avx2,
    [] { return cpu_supports(Target::avx2) && cpuid_bit(7, 1, CpuidRegister::eax, 4); },
    128,
    no_dot_setup,
    no_dot_setup,
    dot_int8_avx_vnni::multiply,
    dot_int8_avx_vnni::scan,
    dot_int8_avx_vnni::Isa::kCodeOffset,
    dot_int8_avx_vnni::Isa::kRowsFromHalves};
}  // namespace seqrec_fast
