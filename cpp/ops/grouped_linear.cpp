#include "ops/grouped_linear.h"

#include "cpu/grouped_linear_kernels.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {
namespace {

template <class T>
GroupedLinearArgs<T> checked(const char* function, const MatrixView<const T>& x,
                             const MatrixView<const T>& weight,
                             const MatrixView<const std::int64_t>& group_offsets,
                             std::int64_t out) {
    const std::int64_t groups = group_offsets.columns - 1;
    check_required(function, "x", x, x.rows, x.columns);
    check_offsets(function, "group_offsets", group_offsets, x.rows, "rows of x");
    check_required(function, "weight", weight, groups * out, x.columns);
    GroupedLinearArgs<T> args{};
    args.x = x.data;
    args.weight = weight.data;
    args.offsets = group_offsets.data;
    args.groups = groups;
    args.in = x.columns;
    args.out = out;
    return args;
}

}  // namespace

template <class T>
void grouped_linear(const char* function, const GroupedLinear<T>& call) {
    GroupedLinearArgs<T> args =
        checked(function, call.x, call.weight, call.group_offsets, call.y.columns);
    check_shape(function, "bias", call.bias, args.groups, args.out);
    check_required(function, "y", call.y, call.x.rows, args.out);
    args.bias = call.bias.data;
    args.y = call.y.data;
    expect_fresh(call.y);
    grouped_linear_cpu(args);
}

template <class T>
void grouped_linear_grad(const char* function, const GroupedLinearGrad<T>& call) {
    GroupedLinearArgs<T> args =
        checked(function, call.x, call.weight, call.group_offsets, call.dy.columns);
    check_required(function, "dy", call.dy, call.x.rows, args.out);
    check_shape(function, "dx", call.dx, call.x.rows, args.in);
    check_shape(function, "dweight", call.dweight, call.weight.rows, args.in);
    check_shape(function, "dbias", call.dbias, args.groups, args.out);
    args.dy = call.dy.data;
    args.dx = call.dx.data;
    args.dweight = call.dweight.data;
    args.dbias = call.dbias.data;
    expect_fresh(call.dx);
    grouped_linear_grad_cpu(args);
}

template void grouped_linear(const char*, const GroupedLinear<float>&);
template void grouped_linear(const char*, const GroupedLinear<double>&);
template void grouped_linear_grad(const char*, const GroupedLinearGrad<float>&);
template void grouped_linear_grad(const char*, const GroupedLinearGrad<double>&);

}  // namespace seqrec_fast
