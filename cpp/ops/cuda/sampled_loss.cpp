#include "ops/cuda/sampled_loss.h"

namespace seqrec_fast {

template <class T>
void sampled_loss_rows(const char* function, const SampledRows<T>& call, cudaStream_t stream) {
    const std::int64_t rows = call.products.rows, n = call.products.columns;
    const std::int64_t groups = call.negatives.rows;
    check_required(function, "products", call.products, rows, n);
    check_required(function, "target", call.target, 1, rows);
    check_required(function, "target_products", call.target_products, 1, rows);
    check_required(function, "negatives", call.negatives, groups, n);
    check_shape(function, "bias", call.bias, 1, call.bias.columns);
    check_shape(function, "log_q", call.log_q, groups, n);
    check_shape(function, "target_log_q", call.target_log_q, 1, rows);
    check_required(function, "loss", call.loss, 1, rows);
    check_negatives(function, call.negatives, call.collisions, rows);
    check_shape(function, "row_grad", call.row_grad, 1, rows);
    if (call.row_grad.present()) {
        check_required(function, "dtarget_scores", call.dtarget_scores, 1, rows);
    }
    sampled_loss_rows_cuda<T>(
        function,
        {call.kind, call.collisions, call.bias.data, call.target.data, call.negatives.data,
         call.log_q.data, call.target_log_q.data, rows, groups, n, call.scale, call.elu,
         call.regularization, call.beta, call.target_products.data, call.products.data,
         call.loss.data, call.row_grad.data, call.dtarget_scores.data},
        stream);
}

template void sampled_loss_rows(const char*, const SampledRows<float>&, cudaStream_t);
template void sampled_loss_rows(const char*, const SampledRows<double>&, cudaStream_t);

}  // namespace seqrec_fast
