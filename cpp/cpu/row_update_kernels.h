// Gradients and updates of some rows of a table on the CPU; each kernel picks the active target
// once per call.
#pragma once

#include "args/row_update_args.h"

namespace seqrec_fast {

template <class T>
void row_sum_cpu(const RowSumArgs<T>& args);

template <class T>
void row_update_cpu(const RowUpdateArgs<T>& args);

}  // namespace seqrec_fast
