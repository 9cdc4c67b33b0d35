#include "ops/loss.h"

#include <type_traits>

#include "base/enum_names.h"
#include "base/radix_sort.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {
namespace {

template <class T>
void check_tables(const char* function, const MatrixView<const T>& hidden,
                  const MatrixView<const T>& weight, const MatrixView<const T>& bias,
                  const MatrixView<const std::int64_t>& target) {
    check_required(function, "hidden", hidden, hidden.rows, hidden.columns);
    check_required(function, "weight", weight, weight.rows, hidden.columns);
    check_shape(function, "bias", bias, 1, weight.rows);
    check_required(function, "target", target, 1, hidden.rows);
    SEQREC_CHECK(hidden.columns >= 1, function, ": hidden has no columns");
    SEQREC_CHECK(weight.rows >= 1, function, ": weight has no rows");
}

template <class T>
void check_precision(const char* function, Precision precision) {
    SEQREC_CHECK(precision != Precision::int8, function,
                 ": precision is int8; expected full or bfloat16");
    SEQREC_CHECK(precision == Precision::full || (std::is_same_v<T, float>), function,
                 ": precision is bfloat16; expected full with float64");
}

}  // namespace

SampledLoss parse_sampled_loss(const std::string& name) {
    static constexpr EnumName<SampledLoss> kNames[] = {
        {"softmax", SampledLoss::softmax},
        {"corrected_softmax", SampledLoss::corrected_softmax},
        {"bpr_max", SampledLoss::bpr_max},
        {"top1_max", SampledLoss::top1_max},
        {"gbce", SampledLoss::gbce}};
    return parse_enum("loss", name, kNames);
}

Collisions parse_collisions(const std::string& name) {
    static constexpr EnumName<Collisions> kNames[] = {
        {"keep", Collisions::keep}, {"mask", Collisions::mask}, {"own", Collisions::own}};
    return parse_enum("collisions", name, kNames);
}

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

template <class T>
void sampled_loss(const char* function, const SampledLossCall<T>& call) {
    check_tables(function, call.hidden, call.weight, call.bias, call.target);
    check_ids(function, "target", call.target, 0, call.weight.rows);
    const MatrixView<const std::int64_t>& negatives = call.negatives;
    const std::int64_t rows = call.hidden.rows, dim = call.hidden.columns;
    const std::int64_t n = negatives.columns, entries = negatives.rows * n;
    check_required(function, "negatives", negatives, negatives.rows, n);
    check_ids(function, "negatives", negatives, 0, call.weight.rows);
    SEQREC_CHECK(n >= 1 && (negatives.rows >= 1 && (negatives.rows <= rows || rows == 0)), function,
                 ": negatives has shape (", negatives.rows, ", ", n, "); expected 1 to ", rows,
                 " sets of one or more");
    const bool own = call.collisions == Collisions::own;
    SEQREC_CHECK(!own || negatives.rows == 1, function,
                 ": collisions is own; expected one set of negatives for all rows");
    SEQREC_CHECK(!own || n >= rows, function, ": negatives has shape (1, ", n, "); expected the ",
                 rows, " targets first, because collisions is own");
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

RowOrder order_rows(const std::int64_t* ids, std::int64_t n) {
    struct Place {
        std::int64_t id, place;
    };
    RowOrder result;
    std::vector<Place> sorted;
    sorted.reserve(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
        sorted.push_back({ids[i], i});
    }
    // With the sign bit turned over, negative ids come first.
    radix_sort(sorted, [](const Place& row) {
        return static_cast<std::uint64_t>(row.id) ^ std::uint64_t{1} << 63;
    });
    result.order.reserve(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
        const auto [id, place] = sorted[static_cast<std::size_t>(i)];
        result.order.push_back(place);
        if (result.ids.empty() || result.ids.back() != id) {
            result.ids.push_back(id);
            result.begin.push_back(i);
        }
    }
    result.begin.push_back(n);
    return result;
}

template <class T>
void row_sum(const char* function, const RowSum<T>& call) {
    const std::int64_t n = checked_row_count(function, call);
    std::vector<const T*> rows;
    for (std::size_t m = 0; m < call.rows.size(); ++m) {
        const MatrixView<const T>& part = call.rows[m];
        const std::int64_t repeats = call.repeats.empty() ? 1 : call.repeats[m];
        for (std::int64_t i = 0; i < part.rows; ++i) {
            rows.insert(rows.end(), static_cast<std::size_t>(repeats),
                        part.data + i * part.columns);
        }
    }
    check_ids(function, "order", call.order, 0, n);
    for (std::int64_t i = 0; i < call.sums.rows; ++i) {
        SEQREC_CHECK(call.begin.data[i] <= call.begin.data[i + 1], function,
                     ": begin decreases at ", i);
    }
    SEQREC_CHECK(call.begin.data[0] == 0 && call.begin.data[call.sums.rows] == n, function,
                 ": begin is not a partition of ", n, " rows");
    row_sum_cpu<T>({call.order.data, call.begin.data, call.sums.rows, call.sums.columns,
                    rows.data(), call.factors.data, call.sums.data});
}

template <class T>
void update_rows(const char* function, const TableUpdate<T>& call) {
    const RowUpdateArgs<T> args = checked_update_rows(function, call);
    check_ids(function, "ids", call.ids, 0, call.table.rows);
    for (std::int64_t i = 1; i < args.n; ++i) {
        SEQREC_CHECK(call.ids.data[i - 1] < call.ids.data[i], function,
                     ": ids are not ascending at ", i);
    }
    row_update_cpu(args);
}

#define SEQREC_INSTANTIATE(T)                                                                \
    template CrossEntropyArgs<T> checked_cross_entropy(const char*, const CrossEntropy<T>&); \
    template void cross_entropy(const char*, const CrossEntropy<T>&);                        \
    template void cross_entropy_grad(const char*, const CrossEntropyGrad<T>&);               \
    template void sampled_loss(const char*, const SampledLossCall<T>&);                      \
    template void row_sum(const char*, const RowSum<T>&);                                    \
    template void update_rows(const char*, const TableUpdate<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
