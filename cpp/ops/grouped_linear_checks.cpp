// What grouped linear layers ask of their arguments, on every device.
#include "ops/argument_checks.h"
#include "ops/grouped_linear.h"

namespace seqrec_fast {
namespace {

template <class T>
GroupedLinearArgs<T> checked(const char* function, const MatrixView<const T>& x,
                             const MatrixView<const T>& weight,
                             const MatrixView<const std::int64_t>& group_offsets,
                             std::int64_t out) {
    check_required(function, "x", x, x.rows, x.columns);
    check_offsets_shape(function, "group_offsets", group_offsets);
    const std::int64_t groups = group_offsets.columns - 1;
    check_shape(function, "weight", weight, groups * out, x.columns);
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
GroupedLinearArgs<T> checked_grouped_linear(const char* function, const GroupedLinear<T>& call) {
    GroupedLinearArgs<T> args =
        checked(function, call.x, call.weight, call.group_offsets, call.y.columns);
    SEQREC_CHECK(call.weight.present(), function, ": weight is missing");
    check_shape(function, "bias", call.bias, args.groups, args.out);
    check_required(function, "y", call.y, call.x.rows, args.out);
    args.bias = call.bias.data;
    args.y = call.y.data;
    return args;
}

template <class T>
GroupedLinearArgs<T> checked_grouped_linear_grad(const char* function,
                                                 const GroupedLinearGrad<T>& call) {
    GroupedLinearArgs<T> args =
        checked(function, call.x, call.weight, call.group_offsets, call.dy.columns);
    SEQREC_CHECK(call.weight.present() || !call.dx.present(), function, ": weight is missing");
    check_required(function, "dy", call.dy, call.x.rows, args.out);
    check_shape(function, "dx", call.dx, call.x.rows, args.in);
    check_shape(function, "dweight", call.dweight, args.groups * args.out, args.in);
    check_shape(function, "dbias", call.dbias, args.groups, args.out);
    args.dy = call.dy.data;
    args.dx = call.dx.data;
    args.dweight = call.dweight.data;
    args.dbias = call.dbias.data;
    return args;
}

#define SEQREC_INSTANTIATE(T)                                                                   \
    template GroupedLinearArgs<T> checked_grouped_linear(const char*, const GroupedLinear<T>&); \
    template GroupedLinearArgs<T> checked_grouped_linear_grad(const char*,                      \
                                                              const GroupedLinearGrad<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
