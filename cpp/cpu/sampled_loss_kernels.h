// Losses of targets against sampled negatives on the CPU; each kernel picks the active target once
// per call.
#pragma once

#include "args/sampled_loss_args.h"

namespace seqrec_fast {

template <class T>
void sampled_loss_cpu(const SampledLossArgs<T>& args);

}  // namespace seqrec_fast
