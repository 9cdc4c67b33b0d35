// Draws from an alias table on the CPU; the kernel picks the active target once per call.
#pragma once

#include <cstdint>

namespace seqrec_fast {

// Item i is drawn where a fraction of 2^64 of its slot lies below
// `threshold`, else `alias` is.
struct AliasSlot {
    std::uint64_t threshold;
    std::int64_t alias;
};

// Draw 32 b + 16 h + l takes words 2 h (lower half) and 2 h + 1 of the counter
// (16 b + l, lower half of `counter`, upper half, 0) as one number of 64 bits. Times `size`, its
// upper 64 bits are the slot and its lower ones the fraction.
struct AliasDrawArgs {
    const AliasSlot* slots;
    std::int64_t size;
    std::uint64_t seed, counter;
    std::int64_t n;     // at most kMaxAliasDraws
    std::int64_t* ids;  // (n)
};
constexpr std::int64_t kMaxAliasDraws = std::int64_t{1} << 32;

void alias_draw_cpu(const AliasDrawArgs& args);

}  // namespace seqrec_fast
