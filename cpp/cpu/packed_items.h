// A catalogue of item vectors, packed once for scoring.
#pragma once

#include <cstdint>

#include "cpu/packed_panels.h"

namespace seqrec_fast {

// Sixteen items lie in one packed vector, so that a vector of sums is sixteen scores. With a bias
// the panels have one more term, the bias, to be multiplied by 1: fma(1, bias, dot) is dot + bias.
// The lanes after the last item are NaN, and so are their scores: never greater than anything.
class PackedItems {
  public:
    PackedItems() = default;
    // items: (n_items, dim) row-major; bias: (n_items), optional. Both are copied.
    PackedItems(const float* items, std::int64_t n_items, std::int64_t dim, const float* bias);

    std::int64_t n_items() const { return n_items_; }
    std::int64_t dim() const { return dim_; }
    bool has_bias() const { return has_bias_; }
    const PackedPanels<float>& panels() const { return panels_; }
    std::int64_t nbytes() const { return panels_.nbytes(); }

  private:
    std::int64_t n_items_ = 0, dim_ = 0;
    bool has_bias_ = false;
    PackedPanels<float> panels_;
};

}  // namespace seqrec_fast
