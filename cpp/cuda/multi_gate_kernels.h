// A dense mixture with several gates on a GPU: as args/multi_gate_args.h, with pointers to its
// memory. `shares` (gates, rows, experts) is room for the softmax of the logits.
#pragma once

#include "args/multi_gate_args.h"
#include "cuda/simt.h"

namespace seqrec_fast {

template <class T>
void multi_gate_cuda(const MultiGateArgs<T>& args, T* shares, cudaStream_t stream);
template <class T>
void multi_gate_grad_cuda(const MultiGateArgs<T>& args, T* shares, cudaStream_t stream);

}  // namespace seqrec_fast
