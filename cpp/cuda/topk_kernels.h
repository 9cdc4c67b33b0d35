// Exact top-k over a catalogue on a GPU. Items are rows, as a model trains them: nothing is packed.
#pragma once

#include <cstdint>

#include "cuda/simt.h"

namespace seqrec_fast {

// As TopkArgs of cpu/topk_kernels.h, with other forms of items, exclusions and masks. Pointers are
// to the GPU's memory; "optional" ones may be null.
struct TopkRowsArgs {
    const float* queries;  // (n_queries, dim)
    const float* items;    // (n_items, dim)
    const float* bias;     // (n_items); optional
    std::int64_t n_queries, n_items, dim, k;
    // Ids that query q is not given, ascending, from exclude_offsets[q] on; optional. Offsets that
    // lie outside and ids that do not exist are passed over.
    const std::int64_t* excluded;
    const std::int64_t* exclude_offsets;
    std::int64_t n_excluded;
    const std::uint8_t* allowed;    // (n_items) of each query, 0: not given; optional
    std::int64_t allowed_stride;    // from one query's to the next's; 0: shared
    float* scores;                  // (n_queries, k)
    std::int64_t* ids;              // (n_queries, k)
    unsigned long long* workspace;  // 16-byte aligned
};

// Entries that the workspace needs, on the device that is current.
std::int64_t topk_workspace_cuda(std::int64_t n_queries, std::int64_t n_items, std::int64_t dim,
                                 std::int64_t k);

void topk_cuda(const TopkRowsArgs& args, cudaStream_t stream);

}  // namespace seqrec_fast
