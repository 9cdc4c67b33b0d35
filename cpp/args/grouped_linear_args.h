// What one linear layer per group of rows (feed-forward experts) is told, on every device.
#pragma once

#include <cstdint>

namespace seqrec_fast {

// Rows [offsets[m], offsets[m + 1]) belong to group m: y = x . weight[m]^T + bias[m].
template <class T>
struct GroupedLinearArgs {
    const T* x;                   // (rows, in)
    const T* weight;              // (groups, out, in)
    const T* bias;                // (groups, out); optional
    const std::int64_t* offsets;  // (groups + 1)
    std::int64_t groups, in, out;

    T* y;  // (rows, out): written by the forward pass

    const T* dy;  // (rows, out); backward only, as the rest
    T* dx;        // (rows, in); optional
    T* dweight;   // (groups, out, in); optional; zeros for a group without rows
    T* dbias;     // (groups, out); optional; so too
};

}  // namespace seqrec_fast
