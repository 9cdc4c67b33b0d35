#include "ops/sampled_loss.h"

#include "cpu/sampled_loss_kernels.h"
#include "ops/loss_checks.h"

namespace seqrec_fast {

template <class T>
void sampled_loss(const char* function, const SampledLossCall<T>& call) {
    check_tables(function, call.hidden, call.weight, call.bias, call.target);
    check_ids(function, "target", call.target, 0, call.weight.rows);
    const MatrixView<const std::int64_t>& negatives = call.negatives;
    const std::int64_t rows = call.hidden.rows, dim = call.hidden.columns;
    const std::int64_t n = negatives.columns, entries = negatives.rows * n;
    check_ids(function, "negatives", negatives, 0, call.weight.rows);
    check_negatives(function, negatives, call.collisions, rows);
    SEQREC_CHECK(!call.per_row || negatives.rows == rows, function, ": negatives has ",
                 negatives.rows, " sets; expected one per row, ", rows);
    check_precision<T>(function, call.precision);
    check_shape(function, "log_q", call.log_q, negatives.rows, n);
    check_shape(function, "target_log_q", call.target_log_q, 1, rows);
    check_required(function, "loss", call.loss, 1, rows);
    if (call.row_grad.present()) {
        check_shape(function, "row_grad", call.row_grad, 1, rows);
        check_required(function, "dhidden", call.dhidden, rows, dim);
        check_required(function, "dtarget_scores", call.dtarget_scores, 1, rows);
        if (call.per_row) {
            SEQREC_CHECK(!call.dnegatives.present(), function,
                         ": dnegatives is given; expected none with negatives per row");
        } else {
            check_required(function, "dnegatives", call.dnegatives, entries, dim);
        }
        check_required(function, "dnegative_bias", call.dnegative_bias, 1, entries);
    }
    sampled_loss_cpu<T>({call.kind,
                         call.collisions,
                         call.hidden.data,
                         call.weight.data,
                         call.bias.data,
                         call.target.data,
                         negatives.data,
                         call.log_q.data,
                         call.target_log_q.data,
                         rows,
                         dim,
                         negatives.rows,
                         n,
                         call.per_row,
                         call.scale,
                         call.elu,
                         call.regularization,
                         call.beta,
                         call.precision,
                         call.loss.data,
                         call.row_grad.data,
                         call.dhidden.data,
                         call.dtarget_scores.data,
                         call.dnegatives.data,
                         call.dnegative_bias.data});
}

#define SEQREC_INSTANTIATE(T) template void sampled_loss(const char*, const SampledLossCall<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
