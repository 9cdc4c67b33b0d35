// Updates of some rows of a table on a GPU: checked, then started on a stream. Arrays are in the
// GPU's memory; ids are not looked at: they have to be rows of the table, each once.
#pragma once

#include "cuda/simt.h"
#include "ops/loss.h"

namespace seqrec_fast {

// As that of ops/loss.h.
template <class T>
void update_rows(const char* function, const TableUpdate<T>& call, cudaStream_t stream);

}  // namespace seqrec_fast
