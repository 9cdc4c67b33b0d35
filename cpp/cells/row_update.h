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

// What its formula needs of it, computed once, in double precision.
template <class T>
struct RowUpdateFactors {
    explicit RowUpdateFactors(const RowUpdate<T>& update)
        : rule(update.rule),
          has_momentum(update.momentum != 0),
          minus_lr(static_cast<T>(-update.lr)),
          kept(static_cast<T>(1 - update.lr * update.weight_decay)),
          momentum(static_cast<T>(update.momentum)),
          eps(static_cast<T>(update.eps)),
          share_1(static_cast<T>(1 - update.beta_1)),
          share_2(static_cast<T>(1 - update.beta_2)),
          correction_1(static_cast<T>(1 / update.correction_1)),
          correction_2(static_cast<T>(1 / update.correction_2)) {}

    UpdateRule rule;
    bool has_momentum;
    T minus_lr, kept, momentum, eps, share_1, share_2, correction_1, correction_2;
};

}  // namespace seqrec_fast
