// What the cross-entropy over an item table is told, on every device.
#pragma once

#include <cstdint>

#include "base/precision.h"
#include "cells/row_update.h"

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

}  // namespace seqrec_fast
