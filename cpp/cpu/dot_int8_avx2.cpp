// 8-bit dot products with AVX2 alone: both sides widened to 16 bits, so that nothing saturates.
#include <immintrin.h>

#include "cpu/dot_backends.h"

#pragma GCC push_options
#pragma GCC target("avx2")
namespace seqrec_fast {
namespace dot_int8_avx2 {

#include "cpu/scan_256-inl.h"

struct Isa : ScanIn256Bits {
    // Of a word's values 0, 1, 2, 3: in 16 bits 0 and 2, 1 and 3.
    struct Pairs {
        __m256i even, odd;
    };
    using Weight = Pairs;
    using Row = Pairs;
    static constexpr int kLanes = 8;
    static constexpr int kAccumulators = 8;

    static Sum start(const std::int32_t*) { return _mm256_setzero_si256(); }
    static Pairs widened(__m256i words) {
        return {_mm256_srai_epi16(_mm256_slli_epi16(words, 8), 8), _mm256_srai_epi16(words, 8)};
    }
    static Weight load(const std::uint32_t* p) {
        return widened(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    }
    static Row broadcast(std::uint32_t word) {
        return widened(_mm256_set1_epi32(static_cast<std::int32_t>(word)));
    }
    static Sum dot(Sum sum, Row a, Weight w) {
        const __m256i products =
            _mm256_add_epi32(_mm256_madd_epi16(a.even, w.even), _mm256_madd_epi16(a.odd, w.odd));
        return _mm256_add_epi32(sum, products);
    }
    static void store(void* p, Sum sum) { _mm256_storeu_si256(static_cast<__m256i*>(p), sum); }

    using Items = Pairs;
    static constexpr std::int64_t kRowsFromHalves = 0;

    static Items items(const std::uint32_t* p) {
        const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
        return {_mm256_and_si256(words, _mm256_set1_epi16(0xff)), _mm256_srli_epi16(words, 8)};
    }
    static Sum dot_items(Sum sum, Items codes, Row row) { return dot(sum, row, codes); }
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
                                 dot_int8_avx2::Isa::kRowsFromHalves};
}  // namespace seqrec_fast
