#include "ops/cuda/gate.h"

#include "cuda/gate_kernels.h"

namespace seqrec_fast {

template <class T>
void expert_gate(const GateCall<T>& call, const MatrixView<T>& weights,
                 const MatrixView<std::int64_t>& ids, cudaStream_t stream) {
    expert_gate_cuda<T>(checked_gate(call, weights, ids), stream);
}

template <class T>
void expert_gate_grad(const GateCall<T>& call, const MatrixView<const std::int64_t>& ids,
                      const MatrixView<const T>& weights, const MatrixView<const T>& dweights,
                      const MatrixView<T>& dlogits, cudaStream_t stream) {
    expert_gate_grad_cuda<T>(checked_gate_grad(call, ids, weights, dweights, dlogits), stream);
}

void gate_noise(GateNoise noise, std::uint64_t seed, std::uint32_t step,
                const MatrixView<float>& values, cudaStream_t stream) {
    gate_noise_cuda(checked_gate_noise(noise, seed, step, values), stream);
}

#define SEQREC_INSTANTIATE(T)                                                                 \
    template void expert_gate(const GateCall<T>&, const MatrixView<T>&,                       \
                              const MatrixView<std::int64_t>&, cudaStream_t);                 \
    template void expert_gate_grad(const GateCall<T>&, const MatrixView<const std::int64_t>&, \
                                   const MatrixView<const T>&, const MatrixView<const T>&,    \
                                   const MatrixView<T>&, cudaStream_t)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
