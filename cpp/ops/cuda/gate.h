// The expert gate on a GPU: checked, then started on a stream. Arrays are in the GPU's memory.
#pragma once

#include "cuda/simt.h"
#include "ops/gate.h"

namespace seqrec_fast {

// As those of ops/gate.h; ids are not looked at, and have to be what the forward pass wrote.
template <class T>
void expert_gate(const GateCall<T>& call, const MatrixView<T>& weights,
                 const MatrixView<std::int64_t>& ids, cudaStream_t stream);

template <class T>
void expert_gate_grad(const GateCall<T>& call, const MatrixView<const std::int64_t>& ids,
                      const MatrixView<const T>& weights, const MatrixView<const T>& dweights,
                      const MatrixView<T>& dlogits, cudaStream_t stream);

void gate_noise(GateNoise noise, std::uint64_t seed, std::uint32_t step,
                const MatrixView<float>& values, cudaStream_t stream);

}  // namespace seqrec_fast
