// A dense mixture with several gates on the CPU, in one pass over the experts' outputs.
#pragma once

#include "args/multi_gate_args.h"

namespace seqrec_fast {

template <class T>
void multi_gate_cpu(const MultiGateArgs<T>& args);
template <class T>
void multi_gate_grad_cpu(const MultiGateArgs<T>& args);

}  // namespace seqrec_fast
