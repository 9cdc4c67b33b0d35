// A dense mixture with several gates, and its gradients: checked, then computed. See
// args/multi_gate_args.h.
#pragma once

#include <cstdint>

#include "base/tensor_view.h"
#include "cpu/multi_gate_kernels.h"

namespace seqrec_fast {

template <class T>
struct MultiGate {
    std::int64_t experts, gates;
    MatrixView<const T> expert_outputs;  // (experts * rows, dim)
    MatrixView<const T> gate_logits;     // (gates * rows, experts)
    MatrixView<T> mixture;               // (gates * rows, dim); forward only
    MatrixView<const T> dmixture;        // (gates * rows, dim); backward only, as the rest
    MatrixView<T> dexpert;               // (experts * rows, dim)
    MatrixView<T> dlogits;               // (gates * rows, experts)
};

// What they ask of their arguments, on every device.
template <class T>
MultiGateArgs<T> checked_multi_gate(const char* function, const MultiGate<T>& call);
template <class T>
MultiGateArgs<T> checked_multi_gate_grad(const char* function, const MultiGate<T>& call);

template <class T>
void multi_gate(const char* function, const MultiGate<T>& call);
template <class T>
void multi_gate_grad(const char* function, const MultiGate<T>& call);

}  // namespace seqrec_fast
