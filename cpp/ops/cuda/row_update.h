// Gradients and updates of some rows of a table on a GPU: checked, then started on a stream. Arrays
// are in the GPU's memory, and what they hold is not looked at: ids have to be rows of the table,
// each once, `order` a permutation and `begin` a partition of the rows.
#pragma once

#include "cuda/simt.h"
#include "ops/row_update.h"

namespace seqrec_fast {

// As those of ops/row_update.h, of up to 8 matrices.
template <class T>
void row_sum(const char* function, const RowSum<T>& call, cudaStream_t stream);

template <class T>
void update_rows(const char* function, const TableUpdate<T>& call, cudaStream_t stream);

}  // namespace seqrec_fast
