// What the int8 back ends of 256 bits share of scan_tiles-inl.h.
//
// No include guard: each includes it inside its own namespace, under its compiler options.

struct ScanIn256Bits {
    using Sum = __m256i;
    static constexpr std::int32_t kCodeOffset = 0;

    static Sum zero() { return _mm256_setzero_si256(); }
    static Sum start_items(const float* bias, float scale) {
        const __m256 units = _mm256_mul_ps(_mm256_loadu_ps(bias), _mm256_set1_ps(scale));
        return _mm256_cvtps_epi32(_mm256_max_ps(units, _mm256_set1_ps(kLeastStart)));
    }
    static std::uint32_t at_least(Sum sum, std::int32_t threshold) {
        const __m256i below = _mm256_cmpgt_epi32(_mm256_set1_epi32(threshold), sum);
        return static_cast<std::uint32_t>(~_mm256_movemask_ps(_mm256_castsi256_ps(below))) & 0xff;
    }
};
