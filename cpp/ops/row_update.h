// Gradients of the rows of a table, and their updates: checked, then computed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "args/row_update_args.h"
#include "base/tensor_view.h"

namespace seqrec_fast {

// A name as Python has it; throws std::invalid_argument for any other.
UpdateRule parse_update_rule(const std::string& name);

// A rule with its state, see cells/row_update.h.
template <class T>
struct RowRule {
    RowUpdate<T> update;
    MatrixView<T> mean, square;
};

// The rule for a table of (rows, dim), whose states must be of that shape.
template <class T>
RowUpdate<T> checked_rule(const char* function, const RowRule<T>& rule, std::int64_t rows,
                          std::int64_t dim);

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
