// The expert gate: checked, then computed.
#pragma once

#include <cstdint>
#include <string>

#include "base/tensor_view.h"
#include "cpu/gate_kernels.h"

namespace seqrec_fast {

// Names as Python has them; they throw std::invalid_argument for any other.
GateScore parse_gate_score(const std::string& name);
GateOrder parse_gate_order(const std::string& name);
GateNoise parse_gate_noise(const std::string& name);

// See GateInputs; mask (1, E) or (N, E), bytes that are 0 where an expert may not be chosen.
template <class T>
struct GateCall {
    MatrixView<const T> logits, bias;
    MatrixView<const std::uint8_t> mask;
    std::int64_t k;
    GateScore score;
    GateOrder order;
    bool renormalize;
    double scale;
};

// The same for kernels; throws std::invalid_argument if something does not fit.
template <class T>
GateInputs<T> gate_inputs(const GateCall<T>& call);
template <class T>
ExpertGateArgs<T> checked_gate(const GateCall<T>& call, const MatrixView<T>& weights,
                               const MatrixView<std::int64_t>& ids);
// Ids are not looked at.
template <class T>
ExpertGateGradArgs<T> checked_gate_grad(const GateCall<T>& call,
                                        const MatrixView<const std::int64_t>& ids,
                                        const MatrixView<const T>& weights,
                                        const MatrixView<const T>& dweights,
                                        const MatrixView<T>& dlogits);

// weights and ids (N, k).
template <class T>
void expert_gate(const GateCall<T>& call, const MatrixView<T>& weights,
                 const MatrixView<std::int64_t>& ids);

// ids, weights and dweights (N, k); dlogits (N, E).
template <class T>
void expert_gate_grad(const GateCall<T>& call, const MatrixView<const std::int64_t>& ids,
                      const MatrixView<const T>& weights, const MatrixView<const T>& dweights,
                      const MatrixView<T>& dlogits);

// values (N, E), see GateNoiseArgs.
GateNoiseArgs checked_gate_noise(GateNoise noise, std::uint64_t seed, std::uint32_t step,
                                 const MatrixView<float>& values);
void gate_noise(GateNoise noise, std::uint64_t seed, std::uint32_t step,
                const MatrixView<float>& values);

}  // namespace seqrec_fast
