#include "ops/cuda/cross_entropy.h"

#include "cuda/cross_entropy_kernels.h"

namespace seqrec_fast {
namespace {

template <class T>
CrossEntropyArgs<T> checked_full(const char* function, const CrossEntropy<T>& call) {
    SEQREC_CHECK(call.precision == Precision::full, function,
                 ": precision is not full; expected full on CUDA");
    return checked_cross_entropy(function, call);
}

}  // namespace

template <class T>
std::int64_t cross_entropy_workspace(std::int64_t rows, std::int64_t items) {
    SEQREC_CHECK(rows >= 0 && items >= 1, "linear_cross_entropy: ", rows, " rows and ", items,
                 " items; expected at least 0 and 1");
    return cross_entropy_workspace_cuda<T>(rows, items);
}

template <class T>
void cross_entropy(const char* function, const CrossEntropy<T>& call,
                   const MatrixView<T>& workspace, cudaStream_t stream) {
    CrossEntropyArgs<T> args = checked_full(function, call);
    check_required(function, "loss", call.loss, 1, args.rows);
    const std::int64_t room = cross_entropy_workspace<T>(args.rows, args.items);
    SEQREC_CHECK(workspace.present() && workspace.rows == 1 && workspace.columns >= room, function,
                 ": workspace has ", workspace.columns, " entries; expected ", room);
    args.loss = call.loss.data;
    cross_entropy_cuda(args, workspace.data, stream);
}

template <class T>
void cross_entropy_score_grad(const char* function, const ScoreGrad<T>& call, cudaStream_t stream) {
    CrossEntropyArgs<T> args = checked_full(function, call.forward);
    check_required(function, "row_grad", call.row_grad, 1, args.rows);
    const std::int64_t n = call.dscores.columns;
    check_required(function, "dscores", call.dscores, args.rows, n);
    SEQREC_CHECK(call.first_item >= 0 && n >= 0 && call.first_item <= args.items - n, function,
                 ": items from ", call.first_item, " on, ", n, " of them; expected some of ",
                 args.items);
    args.row_grad = call.row_grad.data;
    cross_entropy_score_grad_cuda(args, call.first_item, n, call.dscores.data, stream);
}

#define SEQREC_INSTANTIATE(T)                                                              \
    template std::int64_t cross_entropy_workspace<T>(std::int64_t, std::int64_t);          \
    template void cross_entropy(const char*, const CrossEntropy<T>&, const MatrixView<T>&, \
                                cudaStream_t);                                             \
    template void cross_entropy_score_grad(const char*, const ScoreGrad<T>&, cudaStream_t)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
