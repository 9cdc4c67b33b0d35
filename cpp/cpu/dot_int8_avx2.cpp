// 8-bit dot products with AVX2 alone: an instruction multiplies unsigned by signed values, and two
// products meet in 16 bits. Nothing saturates: of weights the sign goes to the row, |w| <= 128 and
// |a| <= 127; with codes of items up to 255 the row has few bits.
#include <immintrin.h>

#include "cpu/dot_backends.h"

#pragma GCC push_options
#pragma GCC target("avx2")
namespace seqrec_fast {
namespace dot_int8_avx2 {

#include "cpu/scan_256-inl.h"

struct Isa : ScanIn256Bits {
    using Weight = __m256i;
    using Row = __m256i;
    static constexpr int kLanes = 8;
    static constexpr int kAccumulators = 8;

    static Sum start(const std::int32_t*) { return _mm256_setzero_si256(); }
    static Weight load(const std::uint32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static Row broadcast(std::uint32_t word) {
        return _mm256_set1_epi32(static_cast<std::int32_t>(word));
    }
    static Sum dot(Sum sum, Row a, Weight w) {
        return dot_items(sum, _mm256_abs_epi8(w), _mm256_sign_epi8(a, w));
    }
    static void store(void* p, Sum sum) { _mm256_storeu_si256(static_cast<__m256i*>(p), sum); }

    using Items = __m256i;
    static constexpr std::int64_t kRowsFromHalves = 0;
    static constexpr int kLargestRowCode = 64;  // 2 * 64 * 255 < 2^15

    static Items items(const std::uint32_t* p) {
        return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    }
    static Sum dot_items(Sum sum, Items codes, Row row) {
        const __m256i pairs = _mm256_maddubs_epi16(codes, row);
        sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
        // One after another: all products at once leave no registers for the sums.
        asm volatile("" : "+x"(sum));
        return sum;
    }
};

#include "cpu/dot_tiles-inl.h"
#include "cpu/scan_tiles-inl.h"

}  // namespace dot_int8_avx2
}  // namespace seqrec_fast
#pragma GCC pop_options

namespace seqrec_fast {
const DotBackend kDotInt8Avx2 = {"avx2",
                                 DotType::int8,
                                 Target::avx2,
                                 [] { return cpu_supports(Target::avx2); },
                                 0,
                                 no_dot_setup,
                                 no_dot_setup,
                                 dot_int8_avx2::multiply,
                                 dot_int8_avx2::scan,
                                 dot_int8_avx2::Isa::kCodeOffset,
                                 dot_int8_avx2::Isa::kRowsFromHalves,
                                 dot_int8_avx2::Isa::kLargestRowCode};
}  // namespace seqrec_fast
