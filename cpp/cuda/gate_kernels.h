// The expert gate on a GPU: as args/gate_args.h, with pointers to its memory.
#pragma once

#include "args/gate_args.h"
#include "cuda/simt.h"

namespace seqrec_fast {

template <class T>
void expert_gate_cuda(const ExpertGateArgs<T>& args, cudaStream_t stream);

template <class T>
void expert_gate_grad_cuda(const ExpertGateGradArgs<T>& args, cudaStream_t stream);

// The numbers of the CPU, up to the rounding of logarithms, sines and cosines.
void gate_noise_cuda(const GateNoiseArgs& args, cudaStream_t stream);

}  // namespace seqrec_fast
