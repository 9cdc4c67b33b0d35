// What the expert gate is told, on every device.
#pragma once

#include <cstdint>

namespace seqrec_fast {

enum class GateScore { softmax, sigmoid, sqrt_softplus };
// Whether experts are chosen by their scores or by their logits, before the scores are taken.
enum class GateOrder { score_then_topk, topk_then_score };

// Which k of the experts a row chooses. A NaN logit, and one that the mask forbids, is no
// candidate. In arithmetic an infinite logit counts as the largest finite number.
template <class T>
struct GateInputs {
    const T* logits;  // (rows, experts)
    std::int64_t rows, experts, k;
    GateScore score;
    GateOrder order;
    bool renormalize;          // the k weights sum to `scale`
    const T* bias;             // (experts); optional: for the choice alone
    const std::uint8_t* mask;  // 0: may not be chosen; optional
    std::int64_t mask_stride;  // from row to row: 0 or `experts`
    double scale;              // of the weights
};

template <class T>
struct ExpertGateArgs {
    GateInputs<T> inputs;
    T* weights;  // (rows, k)
    // (rows, k): the k largest, ties by the smaller id; -1: no candidate is left. Those chosen by
    // scores without a bias are listed by scores as they are rounded, equal ones by id.
    std::int64_t* ids;
};

template <class T>
struct ExpertGateGradArgs {
    GateInputs<T> inputs;     // as they were
    const std::int64_t* ids;  // (rows, k), as expert_gate_cpu wrote them
    const T* weights;         // (rows, k), likewise
    const T* dweights;        // (rows, k)
    T* dlogits;               // (rows, experts)
};

enum class GateNoise { normal, gumbel };

// Numbers of the standard distribution: that of row r and expert e depends on seed, step, r and e.
struct GateNoiseArgs {
    GateNoise noise;
    std::uint64_t seed;
    std::uint32_t step;
    std::int64_t rows, experts;
    float* values;  // (rows, experts)
};

}  // namespace seqrec_fast
