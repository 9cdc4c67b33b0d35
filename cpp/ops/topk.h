// Exact top-k of q . item + bias: checks, then the kernel. The C++ API of the package.
//
// The score is the float32 dot product, one chain of fused multiply-adds in the order of the terms
// from 0 on, then plus the bias. Larger scores come first, then smaller ids; -0 equals +0; an item
// whose score is NaN is never returned. The same query and items give the same bits whatever the
// batch and the number of threads (within one CPU target).
// `function` names the caller in messages. Every mismatch throws std::invalid_argument before
// any memory is written.
#pragma once

#include "base/tensor_view.h"
#include "cpu/packed_items.h"

namespace seqrec_fast {

// items: (N, d), N below 2^31, d at least 1; bias: (1, N), optional. Both are copied.
PackedItems pack_items(const char* function, const MatrixView<const float>& items,
                       const MatrixView<const float>& bias);

struct Topk {
    const PackedItems* items;
    MatrixView<const float> queries;  // (B, d)
    std::int64_t k;                   // at least 1; may exceed N
    // Ids that query b must not be given are excluded[exclude_offsets[b]] .. up to, not including,
    // excluded[exclude_offsets[b + 1]], in any order, repeated or not.
    MatrixView<const std::int64_t> excluded;         // (1, n); optional
    MatrixView<const std::int64_t> exclude_offsets;  // (1, B + 1); with `excluded`
    MatrixView<float> scores;                        // (B, k): -inf where fewer than k are left
    MatrixView<std::int64_t> ids;                    // (B, k): -1 likewise
};

void topk(const char* function, const Topk& call);

}  // namespace seqrec_fast
