// What losses over an item table ask of their arguments.
#pragma once

#include <type_traits>

#include "base/precision.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {

template <class T>
void check_tables(const char* function, const MatrixView<const T>& hidden,
                  const MatrixView<const T>& weight, const MatrixView<const T>& bias,
                  const MatrixView<const std::int64_t>& target) {
    check_required(function, "hidden", hidden, hidden.rows, hidden.columns);
    check_required(function, "weight", weight, weight.rows, hidden.columns);
    check_shape(function, "bias", bias, 1, weight.rows);
    check_required(function, "target", target, 1, hidden.rows);
    SEQREC_CHECK(hidden.columns >= 1, function, ": hidden has no columns");
    SEQREC_CHECK(weight.rows >= 1, function, ": weight has no rows");
}

template <class T>
void check_precision(const char* function, Precision precision) {
    SEQREC_CHECK(precision != Precision::int8, function,
                 ": precision is int8; expected full or bfloat16");
    SEQREC_CHECK(precision == Precision::full || (std::is_same_v<T, float>), function,
                 ": precision is bfloat16; expected full with float64");
}

}  // namespace seqrec_fast
