// Losses of targets against sampled negatives on a GPU, from the products of their vectors.
#pragma once

#include "args/sampled_loss_args.h"
#include "cuda/simt.h"

namespace seqrec_fast {

// As SampledLossArgs of args/sampled_loss_args.h, behind the products of rows and items. Pointers
// are to the GPU's memory.
template <class T>
struct SampledRowsArgs {
    SampledLoss kind;
    Collisions collisions;
    const T* bias;                  // (items); optional
    const std::int64_t* target;     // (rows)
    const std::int64_t* negatives;  // (groups, n_negatives)
    const T* log_q;                 // (groups, n_negatives); optional
    const T* target_log_q;          // (rows); optional
    std::int64_t rows, groups, n_negatives;
    double scale, elu, regularization, beta;
    const T* target_products;  // (rows): hidden . vector of the target
    // (rows, n_negatives): hidden . vectors of the negatives. Their scores' gradients take the
    // place of them; without row_grad they are lost.
    T* products;

    T* loss;            // (rows)
    const T* row_grad;  // (rows); null: no gradients
    T* dtarget_scores;  // (rows)
};

template <class T>
void sampled_loss_rows_cuda(const char* function, const SampledRowsArgs<T>& args,
                            cudaStream_t stream);

}  // namespace seqrec_fast
