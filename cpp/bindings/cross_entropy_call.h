// The arguments of the cross-entropy, as all its functions take them.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "cpu/packed_matrix.h"
#include "ops/cross_entropy.h"

namespace seqrec_fast {

// `view<U>(argument, object)` of `arrays` reads an array of the device.
template <class T, class Arrays>
CrossEntropy<T> read_cross_entropy(const Arrays& arrays, const pybind11::object& hidden,
                                   const pybind11::object& weight, const pybind11::object& bias,
                                   const pybind11::object& target, double scale, double softcap,
                                   double label_smoothing, const std::string& precision,
                                   const pybind11::object& log_sum) {
    CrossEntropy<T> call{};
    call.hidden = arrays.template view<const T>("hidden", hidden);
    call.weight = arrays.template view<const T>("weight", weight);
    call.bias = arrays.template view<const T>("bias", bias);
    call.target = arrays.template view<const std::int64_t>("target", target);
    call.scale = scale;
    call.softcap = softcap;
    call.label_smoothing = label_smoothing;
    call.precision = parse_precision(precision);
    call.log_sum = arrays.template view<T>("log_sum", log_sum);
    return call;
}

}  // namespace seqrec_fast
