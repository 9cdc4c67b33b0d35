// How a table's row changes, given its gradient.
#pragma once

#include <cstdint>

namespace seqrec_fast {

enum class UpdateRule { sgd, adagrad, adam };

// `mean` and `square` are (rows, dim), as the rule has them.
template <class T>
struct RowUpdate {
    UpdateRule rule = UpdateRule::sgd;
    double lr = 0;
    double weight_decay = 0;  // share of a row, times lr, that each update takes away
    double momentum = 0;      // sgd, adagrad: of the steps, in `mean`
    double beta_1 = 0, beta_2 = 0, eps = 0;
    std::int64_t step = 1;                      // adam: from 1
    double correction_1 = 1, correction_2 = 1;  // adam: 1 - beta ** step
    T* mean = nullptr;    // adam: of the gradients; sgd, adagrad: steps; optional without momentum
    T* square = nullptr;  // adagrad: sum of squares; adam: their mean
};

}  // namespace seqrec_fast
