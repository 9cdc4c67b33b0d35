// An update rule as Python passes it.
#pragma once

#include <string>

#include "bindings/array_caster.h"
#include "ops/row_update.h"

namespace seqrec_fast {

// (rule, lr, weight_decay, momentum, beta_1, beta_2, eps, step, mean, square);
// `view<U>(argument, object)` of `arrays` reads an array of the device.
template <class T, class ArraysOf>
RowRule<T> read_rule(const ArraysOf& arrays, const pybind11::tuple& rule) {
    RowRule<T> result;
    RowUpdate<T>& update = result.update;
    update.rule = parse_update_rule(pybind11::cast<std::string>(rule[0]));
    update.lr = pybind11::cast<double>(rule[1]);
    update.weight_decay = pybind11::cast<double>(rule[2]);
    update.momentum = pybind11::cast<double>(rule[3]);
    update.beta_1 = pybind11::cast<double>(rule[4]);
    update.beta_2 = pybind11::cast<double>(rule[5]);
    update.eps = pybind11::cast<double>(rule[6]);
    update.step = pybind11::cast<std::int64_t>(rule[7]);
    result.mean = arrays.template view<T>("mean", rule[8]);
    result.square = arrays.template view<T>("square", rule[9]);
    return result;
}

template <class T>
RowRule<T> read_rule(const char* function, const pybind11::tuple& rule) {
    return read_rule<T>(Arrays{function}, rule);
}

}  // namespace seqrec_fast
