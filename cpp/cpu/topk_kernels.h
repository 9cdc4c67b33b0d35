// The top-k CPU kernel; it picks the active target once per call.
#pragma once

#include <cstdint>

#include "cpu/packed_items.h"

namespace seqrec_fast {

// B queries of `items->dim()` terms. Row-major; "optional" pointers may be null.
struct TopkArgs {
    const PackedItems* items;
    const float* queries;                 // (B, dim)
    std::int64_t n_queries;               // B
    std::int64_t k;                       // at least 1; may exceed the number of items
    const std::int32_t* excluded;         // ids, ascending within each query; optional
    const std::int64_t* exclude_offsets;  // (B + 1): where a query's ids lie; with `excluded`
    float* scores;                        // (B, k): descending; -inf where no item is left
    std::int64_t* ids;                    // (B, k): ascending where scores tie; -1 likewise
};

void topk_cpu(const TopkArgs& args);

}  // namespace seqrec_fast
