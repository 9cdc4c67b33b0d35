// Losses over an item table on the CPU; each kernel picks the active target once per call.
#pragma once

#include <cstdint>
#include <vector>

#include "cells/row_update.h"
#include "cpu/packed_matrix.h"

namespace seqrec_fast {

// Cross-entropy of each row's target under softmax(logits) over all items, with
//     logit = softcap(scale * hidden . weight + bias),   softcap(x) = cap * tanh(x / cap)
// Rows without a target (-1) are left out: their loss and gradient are 0.
template <class T>
struct CrossEntropyArgs {
    const T* hidden;  // (rows, dim)
    const T* weight;  // (items, dim)
    const T* bias;    // (items); optional
    const std::int64_t* target;
    std::int64_t rows, items, dim;
    double scale;
    double softcap;  // 0: none
    double label_smoothing;
    Precision precision;  // of the products; sums are of T

    T* loss;     // (rows): written by the forward pass
    T* log_sum;  // (rows): log(sum(exp(logits))), written by the forward pass, read by the other

    const T* row_grad;  // (rows): gradient with respect to `loss`; backward only, as the rest
    T* dhidden;         // (rows, dim); optional
    T* dweight;         // (items, dim); optional
    T* dbias;           // (items); optional
    // In place of dweight: `table`, which is `weight`, gets its new rows as soon as they are known.
    const RowUpdate<T>* update;
    T* table;
};

template <class T>
void cross_entropy_forward_cpu(const CrossEntropyArgs<T>& args);
template <class T>
void cross_entropy_backward_cpu(const CrossEntropyArgs<T>& args);

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

template <class T>
void sampled_loss_cpu(const SampledLossArgs<T>& args);

// Sums of the rows that belong to one id, in the order in which they come.
template <class T>
struct RowSumArgs {
    const std::int64_t* order;  // (n): rows by ascending id, those of one id in their own order
    const std::int64_t* begin;  // (unique + 1): where in `order` each id begins
    std::int64_t unique, dim;
    const T* const* rows;  // (n) rows of `dim`
    const T* factors;      // (n); optional
    T* sums;               // (unique, dim)
};

template <class T>
void row_sum_cpu(const RowSumArgs<T>& args);

template <class T>
struct RowUpdateArgs {
    RowUpdate<T> update;
    const std::int64_t* ids;    // (n): each once
    const T* gradients;         // (n, dim)
    const RowSumArgs<T>* sums;  // in place of gradients: row i has that of sum i
    std::int64_t n, dim;
    T* table;  // (rows, dim)
};

template <class T>
void row_update_cpu(const RowUpdateArgs<T>& args);

}  // namespace seqrec_fast
