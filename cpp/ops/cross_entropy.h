// Cross-entropy over an item table: checked, then computed.
#pragma once

#include <cstdint>

#include "args/cross_entropy_args.h"
#include "base/tensor_view.h"
#include "ops/row_update.h"

namespace seqrec_fast {

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

}  // namespace seqrec_fast
