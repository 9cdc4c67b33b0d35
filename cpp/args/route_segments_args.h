// Sessions to experts in one pass: mean of a segment's rows, scores, choice.
#pragma once

#include <cstdint>

#include "args/gate_args.h"

namespace seqrec_fast {

template <class T>
struct RouteSegmentsArgs {
    const T* values;              // (N, dim)
    const std::int64_t* offsets;  // (segments + 1)
    const T* prototypes;          // (experts, dim): logits are mean . prototype
    std::int64_t dim;
    GateInputs<T> gate;  // of all segments; its logits are `logits`
    T* means;            // (segments, dim)
    T* logits;           // (segments, experts)
    T* weights;          // (segments, k)
    std::int64_t* ids;   // (segments, k)
};

}  // namespace seqrec_fast
