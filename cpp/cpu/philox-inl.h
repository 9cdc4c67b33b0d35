// Random bits by counter, see cells/philox_cell-inl.h. A word is a function of its counter and a
// key alone, so nothing has to be stored and no order of the draws exists.

// Per-target include guard
#if defined(SEQREC_CPU_PHILOX_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_PHILOX_INL_H_
#undef SEQREC_CPU_PHILOX_INL_H_
#else
#define SEQREC_CPU_PHILOX_INL_H_
#endif

#include <algorithm>
#include <cstdint>

#include "cells/philox_cell-inl.h"
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
    for (int i = 0; i < kPhiloxCounters; ++i) {
        x[0][i] = first + static_cast<std::uint32_t>(i);
        x[1][i] = a;
        x[2][i] = b;
        x[3][i] = c;
    }
    PhiloxKey round_key(key);
    for (int round = 0; round < kPhiloxRounds; ++round) {
        for (int i = 0; i < kPhiloxCounters; ++i) {
            round_key.mix(x[0][i], x[1][i], x[2][i], x[3][i]);
        }
        round_key.advance();
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
