// One linear layer per group of rows on a GPU: as args/grouped_linear_args.h, with pointers to
// its memory. `rows` is N, what the offsets end at; nothing outside of the arrays is touched if
// they do not.
#pragma once

#include "args/grouped_linear_args.h"
#include "cuda/simt.h"

namespace seqrec_fast {

// dx is that of dy with every weight transposed. On tensor cores, for T float, x and the weights
// are rounded to bfloat16.
template <class T>
void grouped_linear_cuda(const GroupedLinearArgs<T>& args, std::int64_t rows, bool tensor_cores,
                         cudaStream_t stream);

// Entries that the sums of parts of large groups take.
std::int64_t grouped_linear_workspace(std::int64_t rows, std::int64_t in, std::int64_t out);

// Writes dweight and dbias, from x and dy.
template <class T>
void grouped_linear_weight_grad_cuda(const GroupedLinearArgs<T>& args, std::int64_t rows,
                                     T* workspace, cudaStream_t stream);

}  // namespace seqrec_fast
