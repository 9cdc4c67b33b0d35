// Sequences split by expert, and put together again: checked, then computed. See
// args/dispatch_args.h for what the arrays hold.
#pragma once

#include <cstdint>
#include <vector>

#include "base/tensor_view.h"
#include "cpu/dispatch_kernels.h"

namespace seqrec_fast {

struct DispatchByExpert {
    MatrixView<const std::int64_t> offsets;     // (1, B + 1)
    MatrixView<const std::int64_t> expert_ids;  // (N, k)
    std::int64_t experts;
    std::int64_t capacity;  // -1: none
};

void check_num_experts(const char* function, std::int64_t experts);

// The same for kernels; throws std::invalid_argument if something does not fit, without a look at
// what the arrays hold.
DispatchPlanArgs checked_dispatch(const char* function, const DispatchByExpert& call);

// Where the M * B subsequences begin: M * B + 1 entries.
std::vector<std::int64_t> dispatch_offsets(const char* function, const DispatchByExpert& call);

// Fills the plan; `offsets` are those of dispatch_offsets for the same call.
void dispatch_plan(const DispatchByExpert& call, const std::vector<std::int64_t>& offsets,
                   std::int64_t* index, std::int64_t* slot, std::int64_t* position);

template <class T>
struct DispatchRows {
    MatrixView<const T> values;               // (N, dim)
    MatrixView<const std::int64_t> position;  // (N, k)
    MatrixView<const T> weights;              // (N, k); optional
    MatrixView<const T> other;                // (nnz, dim); optional
    MatrixView<T> rows;                       // (nnz, dim)
    MatrixView<T> dots;                       // (N, k); with `other`
};

// Positions are not looked at.
template <class T>
DispatchRowsArgs<T> checked_dispatch_rows(const char* function, const DispatchRows<T>& call);

template <class T>
void dispatch_rows(const char* function, const DispatchRows<T>& call);

template <class T>
struct CombineRows {
    MatrixView<const T> rows;                 // (nnz, dim)
    MatrixView<const std::int64_t> position;  // (N, k)
    MatrixView<const T> weights;              // (N, k); optional
    MatrixView<const T> other;                // (N, dim); optional
    MatrixView<T> sums;                       // (N, dim)
    MatrixView<T> dots;                       // (N, k); with `other`
};

// Positions are not looked at.
template <class T>
CombineRowsArgs<T> checked_combine_rows(const char* function, const CombineRows<T>& call);

template <class T>
void combine_rows(const char* function, const CombineRows<T>& call);

}  // namespace seqrec_fast
