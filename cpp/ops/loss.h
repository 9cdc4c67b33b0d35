// Losses over an item table, the gradients of its rows, and their updates: checked, then computed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/tensor_view.h"
#include "cpu/loss_kernels.h"

namespace seqrec_fast {

// Names as Python has them; they throw std::invalid_argument for any other.
UpdateRule parse_update_rule(const std::string& name);
SampledLoss parse_sampled_loss(const std::string& name);
Collisions parse_collisions(const std::string& name);

// A rule with its state, see cpu/loss_kernels.h.
template <class T>
struct RowRule {
    RowUpdate<T> update;
    MatrixView<T> mean, square;
};

// The rule for a table of (rows, dim), whose states must be of that shape.
template <class T>
RowUpdate<T> checked_rule(const char* function, const RowRule<T>& rule, std::int64_t rows,
                          std::int64_t dim);

// N rows, V items; see CrossEntropyArgs. target (1, N): -1 leaves a row out.
template <class T>
struct CrossEntropy {
    MatrixView<const T> hidden, weight, bias;
    MatrixView<const std::int64_t> target;
    double scale, softcap, label_smoothing;
    Precision precision;
    MatrixView<T> loss, log_sum;  // (1, N)
};

// The same for kernels, without loss; throws std::invalid_argument if a shape does not fit. Targets
// are not looked at.
template <class T>
CrossEntropyArgs<T> checked_cross_entropy(const char* function, const CrossEntropy<T>& call);

template <class T>
void cross_entropy(const char* function, const CrossEntropy<T>& call);

template <class T>
struct CrossEntropyGrad {
    CrossEntropy<T> forward;       // without loss
    MatrixView<const T> row_grad;  // (1, N)
    MatrixView<T> dhidden, dweight, dbias;
    const RowRule<T>* rule;  // optional, in place of dweight: `table`, the weight, is updated
    MatrixView<T> table;
};

template <class T>
void cross_entropy_grad(const char* function, const CrossEntropyGrad<T>& call);

// See SampledLossArgs; negatives (G, S), log_q as they are. per_row: G = N, and no dnegatives.
template <class T>
struct SampledLossCall {
    SampledLoss kind;
    Collisions collisions;
    MatrixView<const T> hidden, weight, bias;
    MatrixView<const std::int64_t> target, negatives;
    bool per_row;
    MatrixView<const T> log_q, target_log_q;
    double scale, elu, regularization, beta;
    Precision precision;
    MatrixView<T> loss;
    MatrixView<const T> row_grad;  // optional, and then the gradients are
    MatrixView<T> dhidden, dtarget_scores, dnegatives, dnegative_bias;
};

template <class T>
void sampled_loss(const char* function, const SampledLossCall<T>& call);

// Positions 0 .. n - 1 by ascending id, equal ids in their order, and where each id begins.
struct RowOrder {
    std::vector<std::int64_t> order, begin, ids;
};
RowOrder order_rows(const std::int64_t* ids, std::int64_t n);

// `rows` in several matrices of `dim` columns one after another, each row of matrix m repeats[m]
// times (once where there are none); factors (1, n), optional.
template <class T>
struct RowSum {
    MatrixView<const std::int64_t> order, begin;
    std::vector<MatrixView<const T>> rows;
    std::vector<std::int64_t> repeats;
    MatrixView<const T> factors;
    MatrixView<T> sums;
};

// How many rows there are; what `order` and `begin` hold is not looked at.
template <class T>
std::int64_t checked_row_count(const char* function, const RowSum<T>& call);

template <class T>
void row_sum(const char* function, const RowSum<T>& call);

template <class T>
struct TableUpdate {
    RowRule<T> rule;
    MatrixView<const std::int64_t> ids;  // (1, n): ascending, each once
    MatrixView<const T> gradients;       // (n, dim)
    MatrixView<T> table;
};

// Ids are not looked at.
template <class T>
RowUpdateArgs<T> checked_update_rows(const char* function, const TableUpdate<T>& call);

template <class T>
void update_rows(const char* function, const TableUpdate<T>& call);

}  // namespace seqrec_fast
