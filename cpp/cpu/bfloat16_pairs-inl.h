// Two rows as words of the dot-product back ends: neighbouring terms of columns.

// Per-target include guard
#if defined(SEQREC_CPU_BFLOAT16_PAIRS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_BFLOAT16_PAIRS_INL_H_
#undef SEQREC_CPU_BFLOAT16_PAIRS_INL_H_
#else
#define SEQREC_CPU_BFLOAT16_PAIRS_INL_H_
#endif

#include "cpu/dot_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// words[i] = first[i] and second[i] (zero if null) as bfloat16; up to the next whole vector. Inside
// a DotSession.
HWY_INLINE void pair_to_bfloat16(const float* first, const float* second, std::int64_t n,
                                 std::uint32_t* words) {
    if (DotSession::current().round_pair != nullptr) {
        DotSession::current().round_pair(first, second, n, words);
        return;
    }
    const Lanes<float> d;
    const Lanes<std::uint32_t> du;
    for (std::int64_t i = 0; i < n; i += lane_count<float>()) {
        const auto low = hn::ShiftRight<16>(rounded_to_bfloat16(load_part(d, first + i, n - i)));
        auto high = hn::Zero(du);
        if (second != nullptr) {
            high = hn::And(rounded_to_bfloat16(load_part(d, second + i, n - i)),
                           hn::Set(du, 0xffff0000U));
        }
        hn::StoreU(hn::Or(low, high), du, words + i);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
