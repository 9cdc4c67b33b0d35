// The arguments of grouped linear layers and mixtures, as Python passes them for every device.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "ops/grouped_linear.h"
#include "ops/multi_gate.h"

namespace seqrec_fast {

// `view<U>(argument, object)` of `arrays` reads an array of the device.
template <class T, class Arrays>
GroupedLinear<T> read_grouped_linear(const Arrays& arrays, const pybind11::object& x,
                                     const pybind11::object& weight, const pybind11::object& bias,
                                     const pybind11::object& group_offsets,
                                     const pybind11::object& y) {
    return {arrays.template view<const T>("x", x), arrays.template view<const T>("weight", weight),
            arrays.template view<const T>("bias", bias),
            arrays.template view<const std::int64_t>("group_offsets", group_offsets),
            arrays.template view<T>("y", y)};
}

template <class T, class Arrays>
GroupedLinearGrad<T> read_grouped_linear_grad(
    const Arrays& arrays, const pybind11::object& x, const pybind11::object& weight,
    const pybind11::object& group_offsets, const pybind11::object& dy, const pybind11::object& dx,
    const pybind11::object& dweight, const pybind11::object& dbias) {
    return {arrays.template view<const T>("x", x),
            arrays.template view<const T>("weight", weight),
            arrays.template view<const std::int64_t>("group_offsets", group_offsets),
            arrays.template view<const T>("dy", dy),
            arrays.template view<T>("dx", dx),
            arrays.template view<T>("dweight", dweight),
            arrays.template view<T>("dbias", dbias)};
}

template <class T, class Arrays>
MultiGate<T> read_multi_gate(const Arrays& arrays, std::int64_t experts, std::int64_t gates,
                             const pybind11::object& expert_outputs,
                             const pybind11::object& gate_logits) {
    MultiGate<T> call{};
    call.experts = experts;
    call.gates = gates;
    call.expert_outputs = arrays.template view<const T>("expert_outputs", expert_outputs);
    call.gate_logits = arrays.template view<const T>("gate_logits", gate_logits);
    return call;
}

template <class T, class Arrays>
MultiGate<T> read_multi_gate_forward(const Arrays& arrays, std::int64_t experts, std::int64_t gates,
                                     const pybind11::object& expert_outputs,
                                     const pybind11::object& gate_logits,
                                     const pybind11::object& mixture) {
    MultiGate<T> call = read_multi_gate<T>(arrays, experts, gates, expert_outputs, gate_logits);
    call.mixture = arrays.template view<T>("mixture", mixture);
    return call;
}

template <class T, class Arrays>
MultiGate<T> read_multi_gate_grad(const Arrays& arrays, std::int64_t experts, std::int64_t gates,
                                  const pybind11::object& expert_outputs,
                                  const pybind11::object& gate_logits,
                                  const pybind11::object& dmixture, const pybind11::object& dexpert,
                                  const pybind11::object& dlogits) {
    MultiGate<T> call = read_multi_gate<T>(arrays, experts, gates, expert_outputs, gate_logits);
    call.dmixture = arrays.template view<const T>("dmixture", dmixture);
    call.dexpert = arrays.template view<T>("dexpert", dexpert);
    call.dlogits = arrays.template view<T>("dlogits", dlogits);
    return call;
}

}  // namespace seqrec_fast
