// Softmax cross-entropy over a whole item table on a GPU: as cpu/loss_kernels.h, with pointers to
// its memory.
#pragma once

#include "cpu/loss_kernels.h"
#include "cuda/simt.h"

namespace seqrec_fast {

// Entries of T that the forward pass needs as workspace, on the device that is current.
template <class T>
std::int64_t cross_entropy_workspace_cuda(std::int64_t rows, std::int64_t items);

// A target beyond the last item gives NaN.
template <class T>
void cross_entropy_cuda(const CrossEntropyArgs<T>& args, T* workspace, cudaStream_t stream);

// Gradients with respect to scale * hidden . weight + bias of the items from first_item on:
// dscores (rows, n_items).
template <class T>
void cross_entropy_score_grad_cuda(const CrossEntropyArgs<T>& args, std::int64_t first_item,
                                   std::int64_t n_items, T* dscores, cudaStream_t stream);

}  // namespace seqrec_fast
