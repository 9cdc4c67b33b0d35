// One linear layer per group of rows on a GPU: checked, then started on a stream. Arrays are in the
// GPU's memory; offsets are not looked at, and have to be a partition of the rows.
#pragma once

#include "base/precision.h"
#include "cuda/simt.h"
#include "ops/grouped_linear.h"

namespace seqrec_fast {

// As that of ops/grouped_linear.h, in full precision or, for T float, of values rounded to
// bfloat16. dx is the same of dy and the transposes of the weights.
template <class T>
void grouped_linear(const char* function, const GroupedLinear<T>& call, Precision precision,
                    cudaStream_t stream);

// Entries of `workspace`.
std::int64_t grouped_linear_workspace(const char* function, std::int64_t rows, std::int64_t in,
                                      std::int64_t out);

// dweight and dbias. `workspace` (1, grouped_linear_workspace or more); optional if that is 0.
template <class T>
void grouped_linear_weight_grad(const char* function, const GroupedLinearGrad<T>& call,
                                const MatrixView<T>& workspace, cudaStream_t stream);

}  // namespace seqrec_fast
