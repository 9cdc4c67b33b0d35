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

    using Items = int8x16_t;
    static constexpr std::int32_t kCodeOffset = 128;  // both sides signed
    static constexpr std::int64_t kRowsFromHalves = 0;

    static Items items(const std::uint32_t* p) {
        return vreinterpretq_s8_u32(veorq_u32(vld1q_u32(p), vdupq_n_u32(0x80808080U)));
    }
    static Sum dot_items(Sum sum, Items codes, Row row) { return vdotq_s32(sum, codes, row); }
    static Sum zero() { return vdupq_n_s32(0); }
    static Sum start_items(const float* bias, float scale) {
        return vcvtnq_s32_f32(
            vmaxnmq_f32(vmulq_n_f32(vld1q_f32(bias), scale), vdupq_n_f32(kLeastStart)));
    }
    static std::uint32_t at_least(Sum sum, std::int32_t threshold) {
        const uint32x4_t bits = {1, 2, 4, 8};
        return vaddvq_u32(vandq_u32(vcgeq_s32(sum, vdupq_n_s32(threshold)), bits));
    }
};

#include "cpu/dot_tiles-inl.h"
#include "cpu/scan_tiles-inl.h"

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
const DotBackend kDotInt8NeonDot = {"neon_dot",
                                    DotType::int8,
                                    Target::neon,
                                    dot_int8_neon_dot::supported,
                                    0,
                                    no_dot_setup,
                                    no_dot_setup,
                                    dot_int8_neon_dot::multiply,
                                    dot_int8_neon_dot::scan,
                                    dot_int8_neon_dot::Isa::kCodeOffset,
                                    dot_int8_neon_dot::Isa::kRowsFromHalves};
}  // namespace seqrec_fast
