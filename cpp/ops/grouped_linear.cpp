#include "ops/grouped_linear.h"

#include "ops/argument_checks.h"

namespace seqrec_fast {

template <class T>
void grouped_linear(const char* function, const GroupedLinear<T>& call) {
    const GroupedLinearArgs<T> args = checked_grouped_linear(function, call);
    check_offsets(function, "group_offsets", call.group_offsets, call.x.rows, "rows of x");
    expect_fresh(call.y);
    grouped_linear_cpu(args);
}

template <class T>
void grouped_linear_grad(const char* function, const GroupedLinearGrad<T>& call) {
    const GroupedLinearArgs<T> args = checked_grouped_linear_grad(function, call);
    check_offsets(function, "group_offsets", call.group_offsets, call.x.rows, "rows of x");
    expect_fresh(call.dx);
    grouped_linear_grad_cpu(args);
}

template void grouped_linear(const char*, const GroupedLinear<float>&);
template void grouped_linear(const char*, const GroupedLinear<double>&);
template void grouped_linear_grad(const char*, const GroupedLinearGrad<float>&);
template void grouped_linear_grad(const char*, const GroupedLinearGrad<double>&);

}  // namespace seqrec_fast
