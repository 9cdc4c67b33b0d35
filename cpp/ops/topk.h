// Exact top-k of q . item + bias, and the rank of single items: checks, then the kernel. The C++
// API of the package.
//
// The score is the float32 dot product, one chain of fused multiply-adds in the order of the terms
// from 0 on, then plus the bias. Larger scores come first, then smaller ids; -0 equals +0; an item
// whose score is NaN is never returned. The same query and items give the same bits whatever the
// batch, the number of threads and the way in which candidates are found (within one CPU target).
// `function` names the caller in messages. Every mismatch throws std::invalid_argument before
// any memory is written.
#pragma once

#include <shared_mutex>

#include "base/tensor_view.h"
#include "cpu/item_codes.h"
#include "cpu/topk_kernels.h"

namespace seqrec_fast {

// A catalogue in memory of its user's, which outlives it. Any number of threads may ask; `write`
// waits for them, and they for it.
class ItemCatalogue {
  public:
    // `items` as the kernels read it; `capacity`, a multiple of 64, is what its arrays have room
    // for.
    ItemCatalogue(const PackedItems& items, std::int64_t capacity)
        : items_(items), capacity_(capacity) {}

    const PackedItems& items() const { return items_; }
    std::int64_t capacity() const { return capacity_; }
    TopkStatistics& statistics() const { return statistics_; }
    std::shared_lock<std::shared_mutex> reading() const {
        return std::shared_lock<std::shared_mutex>(mutex_);
    }

    // positions (1, m), ascending, below n_items; sources (1, m); rows (r, dim); bias (1, r),
    // optional. Position positions[i] becomes rows[sources[i]]; then there are n_items items.
    void write(const char* function, const ItemStorage& storage,
               const MatrixView<const std::int64_t>& positions,
               const MatrixView<const std::int64_t>& sources, const MatrixView<const float>& rows,
               const MatrixView<const float>& bias, std::int64_t n_items);

  private:
    PackedItems items_;
    std::int64_t capacity_;
    mutable TopkStatistics statistics_;
    mutable std::shared_mutex mutex_;
};

// Ids are global: those of the catalogue plus its id_offset.
struct Topk {
    const ItemCatalogue* catalogue;
    MatrixView<const float> queries;  // (B, d)
    std::int64_t k;                   // at least 1; may exceed N
    // Ids that query b must not be given are excluded[exclude_offsets[b]] .. up to, not including,
    // excluded[exclude_offsets[b + 1]], in any order, repeated or not.
    MatrixView<const std::int64_t> excluded;         // (1, n); optional
    MatrixView<const std::int64_t> exclude_offsets;  // (1, B + 1); with `excluded`
    // What may be given, one of: bit i of a row for item i; ids in any order, repeated or not,
    // ragged by query as above, or without offsets the same for all.
    MatrixView<const std::uint64_t> allowed_bits;    // (1 or B, words); optional
    MatrixView<const std::int64_t> allowed;          // (1, n); optional
    MatrixView<const std::int64_t> allowed_offsets;  // (1, B + 1); optional
    MatrixView<float> scores;                        // (B, k): -inf where fewer than k are left
    MatrixView<std::int64_t> ids;                    // (B, k): -1 likewise
};

void topk(const char* function, const Topk& call);

struct Ranks {
    const ItemCatalogue* catalogue;
    MatrixView<const float> queries;          // (B, d)
    MatrixView<const std::int64_t> targets;   // (1, B)
    MatrixView<const std::int64_t> excluded;  // as in Topk
    MatrixView<const std::int64_t> exclude_offsets;
    // (1, B), see RankArgs
    MatrixView<std::int64_t> greater, equal, before;
};

void ranks(const char* function, const Ranks& call);

}  // namespace seqrec_fast
