// Draws of items by probability in constant time each: Walker's alias method.
#pragma once

#include <cstdint>
#include <vector>

#include "base/tensor_view.h"
#include "cpu/alias_table.h"

namespace seqrec_fast {

// Immutable: any number of threads may draw at a time.
class AliasTable {
  public:
    // Throws unless probabilities (1, n) are finite, not negative and not all zero; they need not
    // sum to 1. Built in linear time (Vose, 1991).
    explicit AliasTable(const MatrixView<const double>& probabilities);

    const std::vector<AliasSlot>& slots() const { return slots_; }

    // Draws that are a function of seed, counter and their own number alone; `ordered` sorts them.
    std::vector<std::int64_t> draw(std::int64_t n, std::uint64_t seed, std::uint64_t counter,
                                   bool ordered) const;

  private:
    std::vector<AliasSlot> slots_;
};

}  // namespace seqrec_fast
