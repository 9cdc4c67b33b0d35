// One linear layer per group of rows, and its gradients: checked, then computed.
#pragma once

#include <cstdint>

#include "base/tensor_view.h"
#include "cpu/grouped_linear_kernels.h"

namespace seqrec_fast {

// Rows [group_offsets[m], group_offsets[m + 1]) of x times the transpose of weight[m], plus bias.
template <class T>
struct GroupedLinear {
    MatrixView<const T> x;                         // (N, in)
    MatrixView<const T> weight;                    // (M * out, in)
    MatrixView<const T> bias;                      // (M, out); optional
    MatrixView<const std::int64_t> group_offsets;  // (1, M + 1)
    MatrixView<T> y;                               // (N, out)
};

// Offsets are not looked at.
template <class T>
GroupedLinearArgs<T> checked_grouped_linear(const char* function, const GroupedLinear<T>& call);

template <class T>
void grouped_linear(const char* function, const GroupedLinear<T>& call);

template <class T>
struct GroupedLinearGrad {
    MatrixView<const T> x, weight;  // weight: for dx alone
    MatrixView<const std::int64_t> group_offsets;
    MatrixView<const T> dy;        // (N, out)
    MatrixView<T> dx;              // (N, in); optional
    MatrixView<T> dweight, dbias;  // as weight and bias; optional
};

// Offsets are not looked at.
template <class T>
GroupedLinearArgs<T> checked_grouped_linear_grad(const char* function,
                                                 const GroupedLinearGrad<T>& call);

template <class T>
void grouped_linear_grad(const char* function, const GroupedLinearGrad<T>& call);

}  // namespace seqrec_fast
