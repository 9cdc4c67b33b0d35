#include "ops/gate.h"

#include <algorithm>

namespace seqrec_fast {
namespace {

constexpr const char* kName = "expert_gate";

}  // namespace

void gate_noise(GateNoise noise, std::uint64_t seed, std::uint32_t step,
                const MatrixView<float>& values) {
    gate_noise_cpu(checked_gate_noise(noise, seed, step, values));
}

template <class T>
void expert_gate(const GateCall<T>& call, const MatrixView<T>& weights,
                 const MatrixView<std::int64_t>& ids) {
    expert_gate_cpu<T>(checked_gate(call, weights, ids));
}

template <class T>
void expert_gate_grad(const GateCall<T>& call, const MatrixView<const std::int64_t>& ids,
                      const MatrixView<const T>& weights, const MatrixView<const T>& dweights,
                      const MatrixView<T>& dlogits) {
    const auto args = checked_gate_grad(call, ids, weights, dweights, dlogits);
    const GateInputs<T>& inputs = args.inputs;
    const auto is_wrong = [&](std::int64_t id) { return id < -1 || id >= inputs.experts; };
    const std::int64_t* const end = ids.data + inputs.rows * inputs.k;
    // Counted, which is many times as fast as stopping at the first.
    if (std::count_if(ids.data, end, is_wrong) > 0) {
        SEQREC_CHECK(false, kName, ": ids holds ", *std::find_if(ids.data, end, is_wrong),
                     "; expected -1 to ", inputs.experts - 1);
    }
    expert_gate_grad_cpu<T>(args);
}

#define SEQREC_INSTANTIATE(T)                                                                 \
    template void expert_gate(const GateCall<T>&, const MatrixView<T>&,                       \
                              const MatrixView<std::int64_t>&);                               \
    template void expert_gate_grad(const GateCall<T>&, const MatrixView<const std::int64_t>&, \
                                   const MatrixView<const T>&, const MatrixView<const T>&,    \
                                   const MatrixView<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
