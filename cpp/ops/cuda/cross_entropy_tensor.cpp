#include "ops/cuda/cross_entropy_tensor.h"

#include <limits>

namespace seqrec_fast {
namespace {

void check_sizes(const char* function, std::int64_t rows, std::int64_t items, std::int64_t dim) {
    constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max() / 2;
    SEQREC_CHECK(rows >= 0 && rows <= kMost && items >= 1 && items <= kMost, function, ": ", rows,
                 " rows and ", items, " items; expected at least 0 and 1, up to ", kMost);
    SEQREC_CHECK(dim >= 8 && dim <= kMostTensorDim && dim % 8 == 0, function, ": hidden has ", dim,
                 " columns; expected a multiple of 8 up to ", kMostTensorDim, " in bfloat16");
}

void check_aligned(const char* function, const char* argument, const void* data) {
    SEQREC_CHECK(reinterpret_cast<std::uintptr_t>(data) % 16 == 0, function, ": ", argument,
                 " does not begin at a multiple of 16 bytes");
}

CrossEntropyArgs<float> checked(const char* function, const TensorCrossEntropy& call) {
    CrossEntropyArgs<float> args{};
    args.rows = call.hidden.rows;
    args.items = call.weight.rows;
    args.dim = call.hidden.columns;
    check_required(function, "hidden", call.hidden, args.rows, args.dim);
    check_required(function, "weight", call.weight, args.items, args.dim);
    check_sizes(function, args.rows, args.items, args.dim);
    if (args.rows > 0) {
        check_aligned(function, "hidden", call.hidden.data);
    }
    check_aligned(function, "weight", call.weight.data);
    check_shape(function, "bias", call.bias, 1, args.items);
    check_required(function, "target", call.target, 1, args.rows);
    check_required(function, "log_sum", call.log_sum, 1, args.rows);
    args.bias = call.bias.data;
    args.target = call.target.data;
    args.scale = call.scale;
    args.softcap = call.softcap;
    args.label_smoothing = call.label_smoothing;
    args.log_sum = call.log_sum.data;
    return args;
}

Bfloat16Tables tables_of(const TensorCrossEntropy& call) {
    return {call.hidden.data, call.weight.data, call.hidden.columns};
}

void check_workspace(const char* function, const MatrixView<std::uint8_t>& workspace,
                     std::int64_t room) {
    SEQREC_CHECK(workspace.present() && workspace.rows == 1 && workspace.columns >= room, function,
                 ": workspace has ", workspace.columns, " bytes; expected ", room);
}

GradientRows checked_gradient(const char* function, const char* argument, const GradientView& view,
                              std::int64_t rows, std::int64_t* dim) {
    if (view.present()) {
        const std::int64_t columns = view.full.present() ? view.full.columns : view.rounded.columns;
        SEQREC_CHECK(columns >= 1 && columns <= *dim, function, ": ", argument, " has ", columns,
                     " columns; expected 1 to ", *dim);
        *dim = columns;
        check_shape(function, argument, view.full, rows, columns);
        check_shape(function, argument, view.rounded, rows, columns);
    }
    return {view.full.data, view.rounded.data};
}

}  // namespace

std::int64_t cross_entropy_tensor_workspace(std::int64_t rows, std::int64_t items,
                                            std::int64_t dim) {
    check_sizes("linear_cross_entropy", rows, items, dim);
    return cross_entropy_tensor_workspace_cuda(rows, items, dim);
}

std::int64_t cross_entropy_tensor_grad_workspace(std::int64_t rows, std::int64_t items,
                                                 std::int64_t dim) {
    check_sizes("linear_cross_entropy", rows, items, dim);
    return cross_entropy_tensor_grad_workspace_cuda(rows, items, dim);
}

void cross_entropy_tensor(const char* function, const TensorCrossEntropy& call,
                          const MatrixView<float>& loss, const MatrixView<std::uint8_t>& workspace,
                          cudaStream_t stream) {
    CrossEntropyArgs<float> args = checked(function, call);
    check_required(function, "loss", loss, 1, args.rows);
    check_workspace(function, workspace,
                    cross_entropy_tensor_workspace(args.rows, args.items, args.dim));
    args.loss = loss.data;
    cross_entropy_tensor_cuda(args, tables_of(call), workspace.data, stream);
}

void cross_entropy_tensor_grad(const char* function, const TensorCrossEntropyGrad& call,
                               const MatrixView<std::uint8_t>& workspace, cudaStream_t stream) {
    CrossEntropyArgs<float> args = checked(function, call.forward);
    check_required(function, "row_grad", call.row_grad, 1, args.rows);
    check_workspace(function, workspace,
                    cross_entropy_tensor_grad_workspace(args.rows, args.items, args.dim));
    const GradientRows dhidden =
        checked_gradient(function, "dhidden", call.dhidden, args.rows, &args.dim);
    const std::int64_t own = args.dim;
    const GradientRows dweight =
        checked_gradient(function, "dweight", call.dweight, args.items, &args.dim);
    SEQREC_CHECK(!dhidden.present() || args.dim == own, function, ": dweight has ", args.dim,
                 " columns; expected ", own, ", as dhidden");
    check_shape(function, "dbias", call.dbias, 1, args.items);
    args.row_grad = call.row_grad.data;
    args.dbias = call.dbias.data;
    cross_entropy_tensor_grad_cuda(args, tables_of(call.forward), dhidden, dweight, workspace.data,
                                   stream);
}

}  // namespace seqrec_fast
