// What a dense mixture with several gates is told, on every device.
//
// mixture[g, n] = sum over e of softmax(gate_logits[g, n])[e] * expert_outputs[e, n]
// (Ma et al., 2018, "Modeling task relationships in multi-task learning with multi-gate
// mixture-of-experts"). A logit of -inf gives weight 0, and then the output may be anything; if all
// are -inf, all weights are 0.
#pragma once

#include <cstdint>

namespace seqrec_fast {

template <class T>
struct MultiGateArgs {
    const T* expert_outputs;  // (experts, rows, dim)
    const T* gate_logits;     // (gates, rows, experts)
    std::int64_t experts, gates, rows, dim;

    T* mixture;  // (gates, rows, dim): written by the forward pass

    const T* dmixture;  // (gates, rows, dim); backward only, as the rest
    T* dexpert;         // (experts, rows, dim)
    T* dlogits;         // (gates, rows, experts)
};

}  // namespace seqrec_fast
