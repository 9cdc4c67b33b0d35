// Draws from an alias table on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/alias_table_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/alias_table.h"
#include "cpu/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Draws that one set of words gives: two per counter.
constexpr std::int64_t kDrawsAtOnce = 2 * kPhiloxCounters;

inline void alias_draw_block(const AliasDrawArgs& args, std::int64_t block) {
    std::uint32_t words[kPhiloxWords];
    philox_words(args.seed, static_cast<std::uint32_t>(block * kPhiloxCounters),
                 static_cast<std::uint32_t>(args.counter),
                 static_cast<std::uint32_t>(args.counter >> 32), 0, words);
    std::uint64_t fractions[kDrawsAtOnce], places[kDrawsAtOnce];
    // All slots are asked for before the first is read: they lie anywhere in a large table.
    for (std::int64_t i = 0; i < kDrawsAtOnce; ++i) {
        const std::uint32_t* low = words + i / kPhiloxCounters * 2 * kPhiloxCounters;
        low += i % kPhiloxCounters;
        const std::uint64_t bits = low[0] | std::uint64_t{low[kPhiloxCounters]} << 32;
        fractions[i] = hwy::Mul128(bits, static_cast<std::uint64_t>(args.size), &places[i]);
        __builtin_prefetch(args.slots + places[i]);
    }
    const std::int64_t first = block * kDrawsAtOnce;
    const std::int64_t n = std::min(kDrawsAtOnce, args.n - first);
    for (std::int64_t i = 0; i < n; ++i) {
        const AliasSlot& slot = args.slots[places[i]];
        args.ids[first + i] =
            fractions[i] < slot.threshold ? static_cast<std::int64_t>(places[i]) : slot.alias;
    }
}

inline void alias_draw(const AliasDrawArgs& args) {
    constexpr std::int64_t kBlocksPerTask = 256;
    const std::int64_t blocks = (args.n + kDrawsAtOnce - 1) / kDrawsAtOnce;
    parallel_for((blocks + kBlocksPerTask - 1) / kBlocksPerTask, [&](std::int64_t task) {
        const std::int64_t end = std::min(blocks, (task + 1) * kBlocksPerTask);
        for (std::int64_t block = task * kBlocksPerTask; block < end; ++block) {
            alias_draw_block(args, block);
        }
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
void alias_draw_cpu(const AliasDrawArgs& args) {
    static SEQREC_DISPATCH_TABLE(kTable, alias_draw);
    kTable[active_target()](args);
}
}  // namespace seqrec_fast
#endif  // HWY_ONCE
