// Gradients and updates of some rows of a table on a GPU: as cpu/loss_kernels.h, with pointers to
// its memory.
#pragma once

#include "cells/row_update.h"
#include "cpu/loss_kernels.h"
#include "cuda/simt.h"

namespace seqrec_fast {

// `sums` of the arguments is not read.
template <class T>
void row_update_cuda(const RowUpdateArgs<T>& args, cudaStream_t stream);

}  // namespace seqrec_fast
