// What gradients and updates of some rows of a table are told, on every device.
#pragma once

#include <cstdint>

#include "cells/row_update.h"

namespace seqrec_fast {

// Sums of the rows that belong to one id, in the order in which they come.
template <class T>
struct RowSumArgs {
    const std::int64_t* order;  // (n): rows by ascending id, those of one id in their own order
    const std::int64_t* begin;  // (unique + 1): where in `order` each id begins
    std::int64_t unique, dim;
    const T* const* rows;  // (n) rows of `dim`
    const T* factors;      // (n); optional
    T* sums;               // (unique, dim)
};

template <class T>
struct RowUpdateArgs {
    RowUpdate<T> update;
    const std::int64_t* ids;    // (n): each once
    const T* gradients;         // (n, dim)
    const RowSumArgs<T>* sums;  // in place of gradients: row i has that of sum i
    std::int64_t n, dim;
    T* table;  // (rows, dim)
};

}  // namespace seqrec_fast
