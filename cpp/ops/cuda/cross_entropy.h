// Cross-entropy over an item table on a GPU: checked, then started on a stream. Arrays are in the
// GPU's memory, so targets are not looked at: one that is no item gives NaN, any negative one
// leaves its row out.
#pragma once

#include "cuda/simt.h"
#include "ops/cross_entropy.h"

namespace seqrec_fast {

// Entries of T, on the device that is current.
template <class T>
std::int64_t cross_entropy_workspace(std::int64_t rows, std::int64_t items);

// As that of ops/cross_entropy.h, with precision full; workspace (1, cross_entropy_workspace or
// more).
template <class T>
void cross_entropy(const char* function, const CrossEntropy<T>& call,
                   const MatrixView<T>& workspace, cudaStream_t stream);

// A panel of the gradients of scores, from which those of rows and items are matrix products.
template <class T>
struct ScoreGrad {
    CrossEntropy<T> forward;       // without loss
    MatrixView<const T> row_grad;  // (1, N)
    std::int64_t first_item;
    MatrixView<T> dscores;  // (N, items of the panel)
};

template <class T>
void cross_entropy_score_grad(const char* function, const ScoreGrad<T>& call, cudaStream_t stream);

}  // namespace seqrec_fast
