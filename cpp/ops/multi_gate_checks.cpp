// What a mixture with several gates asks of its arguments, on every device.
#include "ops/multi_gate.h"

namespace seqrec_fast {
namespace {

template <class T>
MultiGateArgs<T> checked(const char* function, const MultiGate<T>& call) {
    SEQREC_CHECK(call.experts >= 1, function, ": there are ", call.experts,
                 " experts; expected at least 1");
    SEQREC_CHECK(call.gates >= 1, function, ": there are ", call.gates,
                 " gates; expected at least 1");
    const std::int64_t rows = call.expert_outputs.rows / call.experts;
    check_required(function, "expert_outputs", call.expert_outputs, call.experts * rows,
                   call.expert_outputs.columns);
    check_required(function, "gate_logits", call.gate_logits, call.gates * rows, call.experts);
    MultiGateArgs<T> args{};
    args.expert_outputs = call.expert_outputs.data;
    args.gate_logits = call.gate_logits.data;
    args.experts = call.experts;
    args.gates = call.gates;
    args.rows = rows;
    args.dim = call.expert_outputs.columns;
    return args;
}

}  // namespace

template <class T>
MultiGateArgs<T> checked_multi_gate(const char* function, const MultiGate<T>& call) {
    MultiGateArgs<T> args = checked(function, call);
    check_required(function, "mixture", call.mixture, args.gates * args.rows, args.dim);
    args.mixture = call.mixture.data;
    return args;
}

template <class T>
MultiGateArgs<T> checked_multi_gate_grad(const char* function, const MultiGate<T>& call) {
    MultiGateArgs<T> args = checked(function, call);
    check_required(function, "dmixture", call.dmixture, args.gates * args.rows, args.dim);
    check_required(function, "dexpert", call.dexpert, args.experts * args.rows, args.dim);
    check_required(function, "dlogits", call.dlogits, args.gates * args.rows, args.experts);
    args.dmixture = call.dmixture.data;
    args.dexpert = call.dexpert.data;
    args.dlogits = call.dlogits.data;
    return args;
}

#define SEQREC_INSTANTIATE(T)                                                       \
    template MultiGateArgs<T> checked_multi_gate(const char*, const MultiGate<T>&); \
    template MultiGateArgs<T> checked_multi_gate_grad(const char*, const MultiGate<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
