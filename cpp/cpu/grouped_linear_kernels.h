// One linear layer per group of rows, on the CPU.
#pragma once

#include "args/grouped_linear_args.h"

namespace seqrec_fast {

template <class T>
void grouped_linear_cpu(const GroupedLinearArgs<T>& args);
template <class T>
void grouped_linear_grad_cpu(const GroupedLinearArgs<T>& args);

}  // namespace seqrec_fast
