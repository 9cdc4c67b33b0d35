// Noise of gates on the CPU, for every target: a number is a function of seed, step, row and column
// alone, so that neither threads nor the size of a batch change it.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gate_noise_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/gate_kernels.h"
#include "cpu/philox-inl.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Numbers strictly between 0 and 1 from the upper 23 bits of words, so that float32 has them.
HWY_INLINE hn::Vec<Lanes<float>> uniform(const std::uint32_t* words) {
    const Lanes<float> d;
    const hn::RebindToUnsigned<Lanes<float>> du;
    const hn::RebindToSigned<Lanes<float>> di;
    const auto bits = hn::BitCast(di, hn::ShiftRight<9>(hn::LoadU(du, words)));
    return hn::Mul(hn::Add(hn::ConvertTo(d, bits), hn::Set(d, 0.5F)), hn::Set(d, 0x1p-23F));
}

// The 64 numbers of a block. Normal ones are by Box and Muller (1958), number i and i + 32 from the
// words i and i + 32.
inline void noise_block(GateNoise noise, const std::uint32_t* words, float* out) {
    const Lanes<float> d;
    constexpr int kHalf = kPhiloxWords / 2;
    constexpr int kLanes = static_cast<int>(lane_count<float>());
    for (int i = 0; i < kHalf; i += kLanes) {
        const auto first = uniform(words + i), second = uniform(words + kHalf + i);
        const auto minus_log_first = hn::Neg(hn::Log(d, first));
        if (noise == GateNoise::gumbel) {
            hn::StoreU(hn::Neg(hn::Log(d, minus_log_first)), d, out + i);
            hn::StoreU(hn::Neg(hn::Log(d, hn::Neg(hn::Log(d, second)))), d, out + kHalf + i);
        } else {
            const auto radius = hn::Sqrt(hn::Add(minus_log_first, minus_log_first));
            const auto angle = hn::Mul(second, hn::Set(d, 6.283185307179586F));
            hn::StoreU(hn::Mul(radius, hn::Cos(d, angle)), d, out + i);
            hn::StoreU(hn::Mul(radius, hn::Sin(d, angle)), d, out + kHalf + i);
        }
    }
}

void gate_noise(const GateNoiseArgs& args) {
    constexpr std::int64_t kRowsPerTask = 64;
    parallel_for((args.rows + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task) {
        const std::int64_t end = std::min(args.rows, (task + 1) * kRowsPerTask);
        std::uint32_t words[kPhiloxWords];
        alignas(kCacheLine) float block[kPhiloxWords];
        for (std::int64_t row = task * kRowsPerTask; row < end; ++row) {
            std::uint32_t first = 0;
            for (std::int64_t e = 0; e < args.experts; e += kPhiloxWords) {
                philox_words(args.seed, first, static_cast<std::uint32_t>(row), args.step, 0,
                             words);
                first += kPhiloxCounters;
                noise_block(args.noise, words, block);
                const std::int64_t n = std::min<std::int64_t>(kPhiloxWords, args.experts - e);
                std::copy_n(block, n, args.values + row * args.experts + e);
            }
        }
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {

void gate_noise_cpu(const GateNoiseArgs& args) {
    static SEQREC_DISPATCH_TABLE(kTable, gate_noise);
    kTable[active_target()](args);
}

}  // namespace seqrec_fast
#endif  // HWY_ONCE
