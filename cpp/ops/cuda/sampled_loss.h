// Losses of targets against sampled negatives on a GPU: checked, then started on a stream. Arrays
// are in the GPU's memory, so ids are not looked at: they have to be items.
#pragma once

#include <string>

#include "cuda/sampled_loss_kernels.h"
#include "ops/sampled_loss.h"

namespace seqrec_fast {

// See SampledRowsArgs; N rows, G sets of S negatives.
template <class T>
struct SampledRows {
    SampledLoss kind;
    Collisions collisions;
    MatrixView<const T> bias;  // (1, items); optional
    MatrixView<const std::int64_t> target, negatives;
    MatrixView<const T> log_q, target_log_q;
    double scale, elu, regularization, beta;
    MatrixView<const T> target_products;  // (1, N)
    MatrixView<T> products;               // (N, S)
    MatrixView<T> loss;
    MatrixView<const T> row_grad;  // optional, and then dtarget_scores is
    MatrixView<T> dtarget_scores;
};

template <class T>
void sampled_loss_rows(const char* function, const SampledRows<T>& call, cudaStream_t stream);

}  // namespace seqrec_fast
