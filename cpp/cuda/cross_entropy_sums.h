// Sums of exponentials of the logits of a row, by ranges of items, and what becomes of them.
#pragma once

#include <cstdint>

#include "cells/target_macros.h"
#include "cuda/cross_entropy_kernels.h"
#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

// What the logits of a row have come to, in one range of items.
template <class T>
struct RowPart {
    T largest, sum, logits, target_logit;
};

// A sum that does not lose what is small beside it.
template <class T>
struct LongSum {
    T sum, lost;

    SEQREC_FN void add(T value) {
        const T corrected = value - lost, now = sum + corrected;
        lost = now - sum - corrected;
        sum = now;
    }
};

// Of a row, in one thread.
template <class T>
struct RowSoFar {
    T largest;
    LongSum<T> sum, logits;
};

// Losses and log_sum of all rows from `parts` (ranges, rows), in the order of the ranges. A target
// beyond the last item gives NaN.
template <class T>
void cross_entropy_losses(const CrossEntropyArgs<T>& args, std::int64_t ranges,
                          const RowPart<T>* parts, cudaStream_t stream);

}  // namespace cuda
}  // namespace seqrec_fast
