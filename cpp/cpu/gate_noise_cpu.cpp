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
#include "cells/gate_noise_cell-inl.h"
#include "cpu/gate_kernels.h"
#include "cpu/philox-inl.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

struct NoiseMath : SimdMath<Lanes<float>> {
    static HWY_INLINE V neg(V x) { return hn::Neg(x); }
    static HWY_INLINE V log(V x) { return hn::Log(Lanes<float>(), x); }
    static HWY_INLINE V cos(V x) { return hn::Cos(Lanes<float>(), x); }
    static HWY_INLINE V sin(V x) { return hn::Sin(Lanes<float>(), x); }
};

// Uniform numbers from words.
HWY_INLINE hn::Vec<Lanes<float>> uniform(const std::uint32_t* words) {
    const Lanes<float> d;
    const hn::RebindToUnsigned<Lanes<float>> du;
    const hn::RebindToSigned<Lanes<float>> di;
    const auto bits = hn::BitCast(di, hn::ShiftRight<9>(hn::LoadU(du, words)));
    return GateNoiseCell::uniform<NoiseMath>(hn::ConvertTo(d, bits));
}

// The 64 numbers of a block; normal ones in pairs, number i and i + 32 from the words i and i + 32.
inline void noise_block(GateNoise noise, const std::uint32_t* words, float* out) {
    using M = NoiseMath;
    const Lanes<float> d;
    constexpr int kHalf = kPhiloxWords / 2;
    constexpr int kLanes = static_cast<int>(lane_count<float>());
    for (int i = 0; i < kHalf; i += kLanes) {
        auto first = uniform(words + i), second = uniform(words + kHalf + i);
        if (noise == GateNoise::gumbel) {
            first = GateNoiseCell::gumbel<M>(first);
            second = GateNoiseCell::gumbel<M>(second);
        } else {
            GateNoiseCell::normal<M>(first, second, first, second);
        }
        hn::StoreU(first, d, out + i);
        hn::StoreU(second, d, out + kHalf + i);
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
