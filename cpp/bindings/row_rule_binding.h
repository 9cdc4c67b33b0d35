// An update rule as Python passes it.
#pragma once

#include <string>

#include "bindings/array_caster.h"
#include "ops/loss.h"

namespace seqrec_fast {

// (rule, lr, weight_decay, momentum, beta_1, beta_2, eps, step, mean, square)
template <class T>
RowRule<T> read_rule(const char* name, const pybind11::tuple& rule) {
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
    result.mean = matrix_view<T>(name, "mean", rule[8]);
    result.square = matrix_view<T>(name, "square", rule[9]);
    return result;
}

}  // namespace seqrec_fast
