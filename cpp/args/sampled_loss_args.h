// What losses of targets against sampled negatives are told, on every device.
#pragma once

#include <cstdint>

#include "base/precision.h"

namespace seqrec_fast {

enum class SampledLoss { softmax, corrected_softmax, bpr_max, top1_max, gbce };
// Which negatives of a row do not count: none; those that are its target; negative i of row i.
enum class Collisions { keep, mask, own };

// A loss of each row's target against its negatives, and the gradients of the sum of
// row_grad * loss. `groups` sets of negatives: row i has set i / ceil(rows / groups).
template <class T>
struct SampledLossArgs {
    SampledLoss kind;
    Collisions collisions;
    const T* hidden;                // (rows, dim)
    const T* weight;                // (items, dim)
    const T* bias;                  // (items); optional
    const std::int64_t* target;     // (rows)
    const std::int64_t* negatives;  // (groups, n_negatives)
    const T* log_q;                 // (groups, n_negatives); optional: taken from their scores
    const T* target_log_q;          // (rows); optional
    std::int64_t rows, dim, groups, n_negatives;
    bool per_row;           // groups == rows, in dot products of each row
    double scale;           // of hidden . weight
    double elu;             // alpha of an ELU on the scores; negative: none
    double regularization;  // bpr_max
    double beta;            // gbce: power of the positive probability
    Precision precision;    // of the products with shared negatives; sums are of T

    T* loss;            // (rows)
    const T* row_grad;  // (rows); null: no gradients, and then the rest is null
    T* dhidden;         // (rows, dim)
    T* dtarget_scores;  // (rows): with respect to the scores of the targets
    // (groups * n_negatives, dim): with respect to the vectors of the negatives. Not with per_row,
    // where that of entry e is scale * dnegative_bias[e] times its row of hidden.
    T* dnegatives;
    T* dnegative_bias;  // (groups * n_negatives)
};

}  // namespace seqrec_fast
