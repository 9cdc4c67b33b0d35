// Random bits by counter: Philox 4x32-10 (Salmon et al., 2011, "Parallel random numbers: as easy as
// 1, 2, 3"). Counters, of four words, are put through ten rounds, each with a key of its own.

// Per-target include guard
#if defined(SEQREC_CELLS_PHILOX_CELL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_PHILOX_CELL_INL_H_
#undef SEQREC_CELLS_PHILOX_CELL_INL_H_
#else
#define SEQREC_CELLS_PHILOX_CELL_INL_H_
#endif

#include <cstdint>

#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

constexpr int kPhiloxRounds = 10;

class PhiloxKey {
  public:
    SEQREC_FN explicit PhiloxKey(std::uint64_t key)
        : low_(static_cast<std::uint32_t>(key)), high_(static_cast<std::uint32_t>(key >> 32)) {}

    // One round on a counter.
    SEQREC_FN void mix(std::uint32_t& x0, std::uint32_t& x1, std::uint32_t& x2,
                       std::uint32_t& x3) const {
        const std::uint64_t p0 = std::uint64_t{0xD2511F53} * x0;
        const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * x2;
        x0 = static_cast<std::uint32_t>(p1 >> 32) ^ x1 ^ low_;
        x1 = static_cast<std::uint32_t>(p1);
        x2 = static_cast<std::uint32_t>(p0 >> 32) ^ x3 ^ high_;
        x3 = static_cast<std::uint32_t>(p0);
    }
    // To the key of the next round.
    SEQREC_FN void advance() {
        low_ += 0x9E3779B9;
        high_ += 0xBB67AE85;
    }

  private:
    std::uint32_t low_, high_;
};

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
