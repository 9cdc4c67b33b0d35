// 8-bit dot products with the SDOT instruction of ARMv8.2.
#include <arm_neon.h>

#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include "cpu/dot_backends.h"

#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
namespace seqrec_fast {
namespace dot_int8_neon_dot {

struct Isa {
    using Sum = int32x4_t;
    using Weight = int8x16_t;
    using Row = int8x16_t;
    static constexpr int kLanes = 4;
    static constexpr int kAccumulators = 24;

    static Sum start(const std::int32_t*) { return vdupq_n_s32(0); }
    static Weight load(const std::uint32_t* p) { return vreinterpretq_s8_u32(vld1q_u32(p)); }
    static Row broadcast(std::uint32_t word) { return vreinterpretq_s8_u32(vdupq_n_u32(word)); }
    static Sum dot(Sum sum, Row a, Weight w) { return vdotq_s32(sum, a, w); }
    static void store(void* p, Sum sum) { vst1q_s32(static_cast<std::int32_t*>(p), sum); }
};

#include "cpu/dot_tiles-inl.h"

bool supported() {
#if defined(__linux__)
    constexpr unsigned long kHwcapAsimdDp = 1UL << 20;
    return (getauxval(AT_HWCAP) & kHwcapAsimdDp) != 0;
#else
    return true;  // every Apple processor of this architecture from 2019 on
#endif
}

}  // namespace dot_int8_neon_dot
}  // namespace seqrec_fast
#pragma GCC pop_options

namespace seqrec_fast {
const DotBackend kDotInt8NeonDot = {
    "neon_dot", DotType::int8, Target::neon, dot_int8_neon_dot::supported,
    0,          no_dot_setup,  no_dot_setup, dot_int8_neon_dot::multiply};
}  // namespace seqrec_fast
