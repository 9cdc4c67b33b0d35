// Exact top-k of q . item + bias on a GPU: checked, then started on a stream. Arrays are in the
// GPU's memory, so ids and offsets are not looked at.
#pragma once

#include "base/tensor_view.h"
#include "cuda/topk_kernels.h"

namespace seqrec_fast {

// Scores, order, ties and NaN are as ops/topk.h has them; the scores have the bits that CPU targets
// with fused multiply-adds give.
struct TopkOfRows {
    MatrixView<const float> queries;  // (B, d)
    MatrixView<const float> items;    // (N, d); N below 2^31
    MatrixView<const float> bias;     // (1, N); optional
    std::int64_t k;                   // at least 1; may exceed N
    // As in Topk, but ascending within a query. What is out of range is passed over.
    MatrixView<const std::int64_t> excluded;         // (1, n); optional
    MatrixView<const std::int64_t> exclude_offsets;  // (1, B + 1); with `excluded`
    MatrixView<const std::uint8_t> allowed;          // (1 or B, N); optional; 0: not given
    MatrixView<std::int64_t> workspace;  // (1, topk_workspace or more); aligned to 16 bytes
    MatrixView<float> scores;            // (B, k): -inf where fewer than k are left
    MatrixView<std::int64_t> ids;        // (B, k): -1 likewise
};

// Entries of the workspace, on the device that is current.
std::int64_t topk_workspace(std::int64_t n_queries, std::int64_t n_items, std::int64_t dim,
                            std::int64_t k);

void topk(const TopkOfRows& call, cudaStream_t stream);

}  // namespace seqrec_fast
