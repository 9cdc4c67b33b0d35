// Cross-entropy on tensor cores of a GPU: checked, then started on a stream.
#pragma once

#include "cuda/cross_entropy_kernels.h"
#include "cuda/simt.h"
#include "ops/cross_entropy.h"

namespace seqrec_fast {

// N rows, V items of D bfloat16 values, D a multiple of 8 up to 256; both 16-byte aligned. The rest
// as in CrossEntropy. Targets are not looked at, see ops/cuda/cross_entropy.h.
struct TensorCrossEntropy {
    MatrixView<const std::uint16_t> hidden, weight;
    MatrixView<const float> bias;
    MatrixView<const std::int64_t> target;
    double scale, softcap, label_smoothing;
    MatrixView<float> log_sum;  // (1, N)
};

// Bytes, on the device that is current.
std::int64_t cross_entropy_tensor_workspace(std::int64_t rows, std::int64_t items,
                                            std::int64_t dim);
std::int64_t cross_entropy_tensor_grad_workspace(std::int64_t rows, std::int64_t items,
                                                 std::int64_t dim);

// loss (1, N); workspace (1, cross_entropy_tensor_workspace or more).
void cross_entropy_tensor(const char* function, const TensorCrossEntropy& call,
                          const MatrixView<float>& loss, const MatrixView<std::uint8_t>& workspace,
                          cudaStream_t stream);

// A gradient, in float32 or in bfloat16; absent if both are.
struct GradientView {
    MatrixView<float> full;
    MatrixView<std::uint16_t> rounded;

    bool present() const { return full.present() || rounded.present(); }
};

// Gradients of the first `dim` <= D values of vectors. Rows that are left out must be zeros in
// `hidden`.
struct TensorCrossEntropyGrad {
    TensorCrossEntropy forward;
    MatrixView<const float> row_grad;  // (1, N)
    GradientView dhidden, dweight;     // (N, dim), (V, dim); optional
    MatrixView<float> dbias;           // (1, V); optional
};

void cross_entropy_tensor_grad(const char* function, const TensorCrossEntropyGrad& call,
                               const MatrixView<std::uint8_t>& workspace, cudaStream_t stream);

}  // namespace seqrec_fast
