// The expert gate on the CPU; each kernel picks the active target once per call.
#pragma once

#include "args/gate_args.h"

namespace seqrec_fast {

template <class T>
void expert_gate_cpu(const ExpertGateArgs<T>& args);

template <class T>
void expert_gate_grad_cpu(const ExpertGateGradArgs<T>& args);

void gate_noise_cpu(const GateNoiseArgs& args);

}  // namespace seqrec_fast
