#include "cpu/packed_items.h"

#include <algorithm>
#include <limits>

#include "base/parallel.h"

namespace seqrec_fast {

PackedItems::PackedItems(const float* items, std::int64_t n_items, std::int64_t dim,
                         const float* bias)
    : n_items_(n_items),
      dim_(dim),
      has_bias_(bias != nullptr),
      panels_(blocks_of<float>(n_items), dim + (bias != nullptr ? 1 : 0), kMaxPanelVectors) {
    constexpr std::int64_t kVectorsPerTask = 256;
    const std::int64_t n_vectors = panels_.n_vectors();
    parallel_for((n_vectors + kVectorsPerTask - 1) / kVectorsPerTask, [&](std::int64_t task) {
        const std::int64_t end = std::min(n_vectors, (task + 1) * kVectorsPerTask);
        for (std::int64_t vector = task * kVectorsPerTask; vector < end; ++vector) {
            const std::int64_t first = vector * kPackedLanes<float>;
            panels_.fill_vector(vector, kPackedLanes<float>,
                                [&](std::int64_t lane, std::int64_t k) {
                                    const std::int64_t item = first + lane;
                                    if (item >= n_items) {
                                        return std::numeric_limits<float>::quiet_NaN();
                                    }
                                    return k < dim ? items[item * dim + k] : bias[item];
                                });
        }
    });
}

}  // namespace seqrec_fast
