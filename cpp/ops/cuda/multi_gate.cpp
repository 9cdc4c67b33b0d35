#include "ops/cuda/multi_gate.h"

#include "cuda/multi_gate_kernels.h"

namespace seqrec_fast {

template <class T>
void multi_gate(const char* function, const MultiGate<T>& call, const MatrixView<T>& shares,
                cudaStream_t stream) {
    const MultiGateArgs<T> args = checked_multi_gate(function, call);
    check_required(function, "shares", shares, args.gates * args.rows, args.experts);
    multi_gate_cuda(args, shares.data, stream);
}

template <class T>
void multi_gate_grad(const char* function, const MultiGate<T>& call, const MatrixView<T>& shares,
                     cudaStream_t stream) {
    const MultiGateArgs<T> args = checked_multi_gate_grad(function, call);
    check_required(function, "shares", shares, args.gates * args.rows, args.experts);
    multi_gate_grad_cuda(args, shares.data, stream);
}

#define SEQREC_INSTANTIATE(T)                                                             \
    template void multi_gate(const char*, const MultiGate<T>&, const MatrixView<T>&,      \
                             cudaStream_t);                                               \
    template void multi_gate_grad(const char*, const MultiGate<T>&, const MatrixView<T>&, \
                                  cudaStream_t)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
