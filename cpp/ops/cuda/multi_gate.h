// A dense mixture with several gates on a GPU: checked, then started on a stream. Arrays are in the
// GPU's memory.
#pragma once

#include "cuda/simt.h"
#include "ops/multi_gate.h"

namespace seqrec_fast {

// As those of ops/multi_gate.h; `shares`, of the shape of the logits, is room for their softmax.
template <class T>
void multi_gate(const char* function, const MultiGate<T>& call, const MatrixView<T>& shares,
                cudaStream_t stream);
template <class T>
void multi_gate_grad(const char* function, const MultiGate<T>& call, const MatrixView<T>& shares,
                     cudaStream_t stream);

}  // namespace seqrec_fast
