// What the gate asks of its arguments, on every device.
#include <cmath>
#include <limits>

#include "base/enum_names.h"
#include "ops/gate.h"

namespace seqrec_fast {
namespace {

constexpr const char* kName = "expert_gate";

}  // namespace

template <class T>
GateInputs<T> gate_inputs(const GateCall<T>& call) {
    const std::int64_t rows = call.logits.rows, experts = call.logits.columns;
    check_required(kName, "logits", call.logits, rows, experts);
    SEQREC_CHECK(experts >= 1 && experts <= std::numeric_limits<std::int32_t>::max(), kName,
                 ": logits has ", experts, " columns; expected at least one expert");
    SEQREC_CHECK(call.k >= 1 && call.k <= experts, kName, ": k is ", call.k, "; expected 1 to ",
                 experts);
    SEQREC_CHECK(std::isfinite(call.scale), kName, ": scale is ", call.scale,
                 "; expected a finite number");
    check_shape(kName, "bias", call.bias, 1, experts);
    const bool one_for_all = call.mask.rows == 1;
    check_shape(kName, "mask", call.mask, one_for_all ? 1 : rows, experts);
    return {call.logits.data, rows,
            experts,          call.k,
            call.score,       call.order,
            call.renormalize, call.bias.data,
            call.mask.data,   one_for_all ? 0 : experts,
            call.scale};
}

GateScore parse_gate_score(const std::string& name) {
    static constexpr EnumName<GateScore> kNames[] = {{"softmax", GateScore::softmax},
                                                     {"sigmoid", GateScore::sigmoid},
                                                     {"sqrt_softplus", GateScore::sqrt_softplus}};
    return parse_enum("expert_gate: score", name, kNames);
}

GateOrder parse_gate_order(const std::string& name) {
    static constexpr EnumName<GateOrder> kNames[] = {
        {"score_then_topk", GateOrder::score_then_topk},
        {"topk_then_score", GateOrder::topk_then_score}};
    return parse_enum("expert_gate: order", name, kNames);
}

GateNoise parse_gate_noise(const std::string& name) {
    static constexpr EnumName<GateNoise> kNames[] = {{"normal", GateNoise::normal},
                                                     {"gumbel", GateNoise::gumbel}};
    return parse_enum("gate_noise: noise", name, kNames);
}

GateNoiseArgs checked_gate_noise(GateNoise noise, std::uint64_t seed, std::uint32_t step,
                                 const MatrixView<float>& values) {
    check_required("gate_noise", "values", values, values.rows, values.columns);
    return {noise, seed, step, values.rows, values.columns, values.data};
}

template <class T>
ExpertGateArgs<T> checked_gate(const GateCall<T>& call, const MatrixView<T>& weights,
                               const MatrixView<std::int64_t>& ids) {
    const GateInputs<T> inputs = gate_inputs(call);
    check_required(kName, "weights", weights, inputs.rows, inputs.k);
    check_required(kName, "ids", ids, inputs.rows, inputs.k);
    return {inputs, weights.data, ids.data};
}

template <class T>
ExpertGateGradArgs<T> checked_gate_grad(const GateCall<T>& call,
                                        const MatrixView<const std::int64_t>& ids,
                                        const MatrixView<const T>& weights,
                                        const MatrixView<const T>& dweights,
                                        const MatrixView<T>& dlogits) {
    const GateInputs<T> inputs = gate_inputs(call);
    check_required(kName, "ids", ids, inputs.rows, inputs.k);
    check_required(kName, "weights", weights, inputs.rows, inputs.k);
    check_required(kName, "dweights", dweights, inputs.rows, inputs.k);
    check_required(kName, "dlogits", dlogits, inputs.rows, inputs.experts);
    return {inputs, ids.data, weights.data, dweights.data, dlogits.data};
}

#define SEQREC_INSTANTIATE(T)                                                                  \
    template GateInputs<T> gate_inputs(const GateCall<T>&);                                    \
    template ExpertGateArgs<T> checked_gate(const GateCall<T>&, const MatrixView<T>&,          \
                                            const MatrixView<std::int64_t>&);                  \
    template ExpertGateGradArgs<T> checked_gate_grad(                                          \
        const GateCall<T>&, const MatrixView<const std::int64_t>&, const MatrixView<const T>&, \
        const MatrixView<const T>&, const MatrixView<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
