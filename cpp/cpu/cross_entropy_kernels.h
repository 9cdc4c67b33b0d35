// The cross-entropy over an item table on the CPU; each kernel picks the active target once per
// call.
#pragma once

#include "args/cross_entropy_args.h"

namespace seqrec_fast {

template <class T>
void cross_entropy_forward_cpu(const CrossEntropyArgs<T>& args);
template <class T>
void cross_entropy_backward_cpu(const CrossEntropyArgs<T>& args);

}  // namespace seqrec_fast
