// Gradients and updates of some rows of a table on a GPU: as args/row_update_args.h, with pointers
// to its memory.
#pragma once

#include "args/row_update_args.h"
#include "cuda/simt.h"

namespace seqrec_fast {

// Some matrices whose rows are numbered one after another, each row of matrix m repeats[m] times.
template <class T>
struct RowParts {
    static constexpr int kMost = 8;
    const T* rows[kMost];
    std::int64_t end[kMost];  // one more than the last number of a matrix
    std::int64_t repeats[kMost];
    int count;
};

// As RowSumArgs, which has a pointer to each row, and those in the memory of the host.
template <class T>
struct RowPartsSum {
    const std::int64_t* order;
    const std::int64_t* begin;
    std::int64_t unique, dim;
    RowParts<T> parts;  // less than 2^31 rows
    const T* factors;
    T* sums;
};

template <class T>
void row_sum_cuda(const RowPartsSum<T>& args, cudaStream_t stream);

// `sums` of the arguments is not read.
template <class T>
void row_update_cuda(const RowUpdateArgs<T>& args, cudaStream_t stream);

}  // namespace seqrec_fast
