#include "ops/multi_gate.h"

#include "ops/argument_checks.h"

namespace seqrec_fast {

template <class T>
void multi_gate(const char* function, const MultiGate<T>& call) {
    const MultiGateArgs<T> args = checked_multi_gate(function, call);
    expect_fresh(call.mixture);
    multi_gate_cpu(args);
}

template <class T>
void multi_gate_grad(const char* function, const MultiGate<T>& call) {
    const MultiGateArgs<T> args = checked_multi_gate_grad(function, call);
    expect_fresh(call.dexpert);
    multi_gate_grad_cpu(args);
}

template void multi_gate(const char*, const MultiGate<float>&);
template void multi_gate(const char*, const MultiGate<double>&);
template void multi_gate_grad(const char*, const MultiGate<float>&);
template void multi_gate_grad(const char*, const MultiGate<double>&);

}  // namespace seqrec_fast
