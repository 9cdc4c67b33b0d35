// The arguments of the gate, as all its functions take them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "ops/gate.h"

namespace seqrec_fast {

// `view<U>(argument, object)` reads an array of the device.
template <class T, class Reader>
GateCall<T> read_gate_call(const Reader& reader, const pybind11::object& logits, std::int64_t k,
                           const std::string& score, const std::string& order, bool renormalize,
                           const pybind11::object& bias, const pybind11::object& mask,
                           double scale) {
    return {reader.template view<const T>("logits", logits),
            reader.template view<const T>("bias", bias),
            reader.template view<const std::uint8_t>("mask", mask),
            k,
            parse_gate_score(score),
            parse_gate_order(order),
            renormalize,
            scale};
}

}  // namespace seqrec_fast
