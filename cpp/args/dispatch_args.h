// What the split of sequences by expert is told, and the way back, on every device.
//
// B sequences with N events in all; each event has k choices among M experts. The subsequence of
// expert m and sequence b is number m * B + b: the events that chose m, oldest first. Its rows lie
// one after another, so that all experts together are one ragged batch.
#pragma once

#include <cstdint>

namespace seqrec_fast {

struct DispatchPlanArgs {
    const std::int64_t* offsets;     // (B + 1): where the sequences begin
    const std::int64_t* expert_ids;  // (N, k): each expert at most once in a row; -1: none
    std::int64_t batch, k, experts;
    std::int64_t capacity;  // events that a subsequence keeps, the newest; -1: all
};

// What `offsets` has room for: nnz = offsets[M * B] rows.
struct DispatchPlan {
    const std::int64_t* offsets;
    std::int64_t* index;     // (nnz): the event of each row
    std::int64_t* slot;      // (nnz): its choice, a position in expert_ids
    std::int64_t* position;  // (N, k): the row of each choice, or -1; the inverse of slot
};

// rows[position[n, j]] = weights[n, j] * values[n], and, if wanted,
// dots[n, j] = values[n] . other[position[n, j]], 0 without a position.
template <class T>
struct DispatchRowsArgs {
    const T* values;               // (events, dim)
    const std::int64_t* position;  // (events, k)
    const T* weights;              // (events, k); optional: 1
    const T* other;                // (nnz, dim); optional
    std::int64_t events, k, dim, nnz;
    T* rows;  // (nnz, dim)
    T* dots;  // (events, k); with `other`
};

// sums[n] = sum over j of weights[n, j] * rows[position[n, j]], in the order of j, and, if wanted,
// dots[n, j] = other[n] . rows[position[n, j]], 0 without a position.
template <class T>
struct CombineRowsArgs {
    const T* rows;                 // (nnz, dim)
    const std::int64_t* position;  // (events, k)
    const T* weights;              // (events, k); optional: 1
    const T* other;                // (events, dim); optional
    std::int64_t events, k, dim, nnz;
    T* sums;  // (events, dim)
    T* dots;  // (events, k); with `other`
};

}  // namespace seqrec_fast
