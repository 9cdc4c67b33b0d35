// Random bits by counter: Philox 4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as
// 1, 2, 3"). A word is a function of its counter and a key alone, so nothing has to be stored and
// no order of the draws exists.

// Per-target include guard
#if defined(SEQREC_CPU_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_PHILOX_INL_H_
#undef SEQREC_CPU_PHILOX_INL_H_
#else
#define SEQREC_CPU_PHILOX_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

constexpr int kPhiloxCounters = 16;
constexpr int kPhiloxWords = 4 * kPhiloxCounters;

// The words of the counters (first + i, a, b, c), i = 0 to 15: word j of counter i is
// words[j * 16 + i].
inline void philox_words(std::uint64_t key, std::uint32_t first, std::uint32_t a, std::uint32_t b,
                         std::uint32_t c, std::uint32_t* HWY_RESTRICT words) {
    std::uint32_t* const x[4] = {words, words + kPhiloxCounters, words + 2 * kPhiloxCounters,
                                 words + 3 * kPhiloxCounters};
    auto key0 = static_cast<std::uint32_t>(key), key1 = static_cast<std::uint32_t>(key >> 32);
    for (int i = 0; i < kPhiloxCounters; ++i) {
        x[0][i] = first + static_cast<std::uint32_t>(i);
        x[1][i] = a;
        x[2][i] = b;
        x[3][i] = c;
    }
    for (int round = 0; round < 10; ++round) {
        for (int i = 0; i < kPhiloxCounters; ++i) {
            const std::uint64_t p0 = std::uint64_t{0xD2511F53} * x[0][i];
            const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * x[2][i];
            x[0][i] = static_cast<std::uint32_t>(p1 >> 32) ^ x[1][i] ^ key0;
            x[1][i] = static_cast<std::uint32_t>(p1);
            x[2][i] = static_cast<std::uint32_t>(p0 >> 32) ^ x[3][i] ^ key1;
            x[3][i] = static_cast<std::uint32_t>(p0);
        }
        key0 += 0x9E3779B9;
        key1 += 0xBB67AE85;
    }
}

// choose(i, hit) for i < n, where `hit` has the probability p: element i of the row (a, b, c).
template <class Choose>
HWY_INLINE void philox_chances(std::uint64_t key, std::uint32_t a, std::uint32_t b, std::uint32_t c,
                               double p, std::int64_t n, const Choose& choose) {
    const auto threshold = static_cast<std::uint32_t>(std::min(p * 0x1p32, 0x1p32 - 1));
    std::uint32_t words[kPhiloxWords];
    std::uint32_t counter = 0;
    for (std::int64_t first = 0; first < n; first += kPhiloxWords) {
        philox_words(key, counter, a, b, c, words);
        counter += kPhiloxCounters;
        const std::int64_t count = std::min<std::int64_t>(kPhiloxWords, n - first);
        for (std::int64_t i = 0; i < count; ++i) {
            choose(first + i, words[i] < threshold);
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
