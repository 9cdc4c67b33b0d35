#include "ops/cross_entropy.h"

#include "cpu/cross_entropy_kernels.h"
#include "ops/loss_checks.h"

namespace seqrec_fast {

template <class T>
CrossEntropyArgs<T> checked_cross_entropy(const char* function, const CrossEntropy<T>& call) {
    check_tables(function, call.hidden, call.weight, call.bias, call.target);
    check_required(function, "log_sum", call.log_sum, 1, call.hidden.rows);
    check_precision<T>(function, call.precision);
    CrossEntropyArgs<T> args{};
    args.hidden = call.hidden.data;
    args.weight = call.weight.data;
    args.bias = call.bias.data;
    args.target = call.target.data;
    args.rows = call.hidden.rows;
    args.items = call.weight.rows;
    args.dim = call.hidden.columns;
    args.scale = call.scale;
    args.softcap = call.softcap;
    args.label_smoothing = call.label_smoothing;
    args.precision = call.precision;
    args.log_sum = call.log_sum.data;
    return args;
}

template <class T>
void cross_entropy(const char* function, const CrossEntropy<T>& call) {
    CrossEntropyArgs<T> args = checked_cross_entropy(function, call);
    check_ids(function, "target", call.target, -1, args.items);
    check_required(function, "loss", call.loss, 1, call.hidden.rows);
    args.loss = call.loss.data;
    cross_entropy_forward_cpu(args);
}

template <class T>
void cross_entropy_grad(const char* function, const CrossEntropyGrad<T>& call) {
    CrossEntropyArgs<T> args = checked_cross_entropy(function, call.forward);
    check_ids(function, "target", call.forward.target, -1, args.items);
    check_required(function, "row_grad", call.row_grad, 1, args.rows);
    check_shape(function, "dhidden", call.dhidden, args.rows, args.dim);
    check_shape(function, "dweight", call.dweight, args.items, args.dim);
    check_shape(function, "dbias", call.dbias, 1, args.items);
    args.row_grad = call.row_grad.data;
    args.dhidden = call.dhidden.data;
    args.dweight = call.dweight.data;
    args.dbias = call.dbias.data;
    RowUpdate<T> update;
    if (call.rule != nullptr) {
        check_required(function, "table", call.table, args.items, args.dim);
        SEQREC_CHECK(call.table.data == args.weight, function, ": table is not the weight");
        update = checked_rule(function, *call.rule, args.items, args.dim);
        args.update = &update;
        args.table = call.table.data;
        args.dweight = nullptr;
    }
    cross_entropy_backward_cpu(args);
}

#define SEQREC_INSTANTIATE(T)                                                                \
    template CrossEntropyArgs<T> checked_cross_entropy(const char*, const CrossEntropy<T>&); \
    template void cross_entropy(const char*, const CrossEntropy<T>&);                        \
    template void cross_entropy_grad(const char*, const CrossEntropyGrad<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
