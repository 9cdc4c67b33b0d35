// Softmax cross-entropy over a whole item table on a GPU: as args/cross_entropy_args.h, with
// pointers to its memory.
#pragma once

#include "args/cross_entropy_args.h"
#include "cuda/simt.h"

namespace seqrec_fast {

// Entries of T that the forward pass needs as workspace, on the device that is current.
template <class T>
std::int64_t cross_entropy_workspace_cuda(std::int64_t rows, std::int64_t items);

// A target beyond the last item gives NaN.
template <class T>
void cross_entropy_cuda(const CrossEntropyArgs<T>& args, T* workspace, cudaStream_t stream);

// Gradients with respect to scale * hidden . weight + bias of the items from first_item on:
// dscores (rows, n_items).
template <class T>
void cross_entropy_score_grad_cuda(const CrossEntropyArgs<T>& args, std::int64_t first_item,
                                   std::int64_t n_items, T* dscores, cudaStream_t stream);

// Cross-entropy on tensor cores: products of bfloat16 values, sums and all else in float32. In the
// arguments, hidden and weight are not looked at, dim is that of the gradients.
struct Bfloat16Tables {
    const std::uint16_t* hidden;  // (rows, dim), 16-byte aligned, as the other
    const std::uint16_t* weight;  // (items, dim)
    std::int64_t dim;             // a multiple of 8 up to kMostTensorDim
};
constexpr std::int64_t kMostTensorDim = 256;

// Bytes of workspace, on the device that is current.
std::int64_t cross_entropy_tensor_workspace_cuda(std::int64_t rows, std::int64_t items,
                                                 std::int64_t dim);
void cross_entropy_tensor_cuda(const CrossEntropyArgs<float>& args, const Bfloat16Tables& tables,
                               void* workspace, cudaStream_t stream);

// A matrix (n, dim) of float32 or of bfloat16, the one that is not null; none if both are.
struct GradientRows {
    float* full;
    std::uint16_t* rounded;

    bool present() const { return full != nullptr || rounded != nullptr; }
};

// Vectors of rows that are left out must be zeros; so are their gradients then, unless the table
// holds what is not finite. args.dbias: optional.
std::int64_t cross_entropy_tensor_grad_workspace_cuda(std::int64_t rows, std::int64_t items,
                                                      std::int64_t dim);
void cross_entropy_tensor_grad_cuda(const CrossEntropyArgs<float>& args,
                                    const Bfloat16Tables& tables, const GradientRows& dhidden,
                                    const GradientRows& dweight, void* workspace,
                                    cudaStream_t stream);

}  // namespace seqrec_fast
