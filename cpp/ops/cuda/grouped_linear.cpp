#include "ops/cuda/grouped_linear.h"

#include "cuda/grouped_linear_kernels.h"

namespace seqrec_fast {

template <class T>
void grouped_linear(const char* function, const GroupedLinear<T>& call, Precision precision,
                    cudaStream_t stream) {
    const bool tensor_cores = precision == Precision::bfloat16;
    SEQREC_CHECK(precision == Precision::full || (tensor_cores && sizeof(T) == 4), function,
                 ": precision is not full; expected that, or bfloat16 for float32 arrays");
    grouped_linear_cuda(checked_grouped_linear(function, call), call.x.rows, tensor_cores, stream);
}

std::int64_t grouped_linear_workspace(const char* function, std::int64_t rows, std::int64_t in,
                                      std::int64_t out) {
    SEQREC_CHECK(rows >= 0 && in >= 0 && out >= 0, function, ": sizes are ", rows, ", ", in,
                 " and ", out, "; expected no negative number");
    return grouped_linear_workspace(rows, in, out);
}

template <class T>
void grouped_linear_weight_grad(const char* function, const GroupedLinearGrad<T>& call,
                                const MatrixView<T>& workspace, cudaStream_t stream) {
    const GroupedLinearArgs<T> args = checked_grouped_linear_grad(function, call);
    SEQREC_CHECK(!call.dx.present(), function, ": dx is given; expected dweight and dbias");
    const std::int64_t needed = grouped_linear_workspace(function, call.x.rows, args.in, args.out);
    const std::int64_t given = workspace.present() ? workspace.rows * workspace.columns : 0;
    SEQREC_CHECK(given >= needed, function, ": workspace has ", given, " entries; expected ",
                 needed);
    grouped_linear_weight_grad_cuda(args, call.x.rows, workspace.data, stream);
}

#define SEQREC_INSTANTIATE(T)                                                                    \
    template void grouped_linear(const char*, const GroupedLinear<T>&, Precision, cudaStream_t); \
    template void grouped_linear_weight_grad(const char*, const GroupedLinearGrad<T>&,           \
                                             const MatrixView<T>&, cudaStream_t)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
