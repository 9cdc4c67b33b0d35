// What updates of rows ask of their arguments, on every device.
#include <cmath>

#include "base/enum_names.h"
#include "ops/argument_checks.h"
#include "ops/row_update.h"

namespace seqrec_fast {

UpdateRule parse_update_rule(const std::string& name) {
    static constexpr EnumName<UpdateRule> kNames[] = {
        {"sgd", UpdateRule::sgd}, {"adagrad", UpdateRule::adagrad}, {"adam", UpdateRule::adam}};
    return parse_enum("rule", name, kNames);
}

template <class T>
RowUpdate<T> checked_rule(const char* function, const RowRule<T>& rule, std::int64_t rows,
                          std::int64_t dim) {
    RowUpdate<T> update = rule.update;
    const bool adam = update.rule == UpdateRule::adam;
    if (adam || update.momentum != 0) {
        check_required(function, "mean", rule.mean, rows, dim);
    }
    if (update.rule != UpdateRule::sgd) {
        check_required(function, "square", rule.square, rows, dim);
    }
    SEQREC_CHECK(update.step >= 1, function, ": step is ", update.step, "; expected at least 1");
    if (adam) {
        update.correction_1 = 1 - std::pow(update.beta_1, static_cast<double>(update.step));
        update.correction_2 = 1 - std::pow(update.beta_2, static_cast<double>(update.step));
    }
    update.mean = rule.mean.data;
    update.square = rule.square.data;
    return update;
}

template <class T>
RowUpdateArgs<T> checked_update_rows(const char* function, const TableUpdate<T>& call) {
    const std::int64_t dim = call.table.columns, n = call.ids.columns;
    check_required(function, "table", call.table, call.table.rows, dim);
    check_required(function, "ids", call.ids, 1, n);
    check_required(function, "gradients", call.gradients, n, dim);
    return {checked_rule(function, call.rule, call.table.rows, dim),
            call.ids.data,
            call.gradients.data,
            nullptr,
            n,
            dim,
            call.table.data};
}

template <class T>
std::int64_t checked_row_count(const char* function, const RowSum<T>& call) {
    SEQREC_CHECK(call.repeats.empty() || call.repeats.size() == call.rows.size(), function,
                 ": repeats has ", call.repeats.size(), " numbers; expected ", call.rows.size());
    std::int64_t n = 0;
    for (std::size_t m = 0; m < call.rows.size(); ++m) {
        const MatrixView<const T>& part = call.rows[m];
        const std::int64_t repeats = call.repeats.empty() ? 1 : call.repeats[m];
        SEQREC_CHECK(repeats >= 0, function, ": repeats[", m, "] is ", repeats,
                     "; expected 0 or more");
        check_required(function, "rows", part, part.rows, call.sums.columns);
        n += repeats * part.rows;
    }
    check_required(function, "order", call.order, 1, n);
    check_required(function, "begin", call.begin, 1, call.sums.rows + 1);
    check_shape(function, "factors", call.factors, 1, n);
    return n;
}

#define SEQREC_INSTANTIATE(T)                                                        \
    template RowUpdate<T> checked_rule(const char*, const RowRule<T>&, std::int64_t, \
                                       std::int64_t);                                \
    template std::int64_t checked_row_count(const char*, const RowSum<T>&);          \
    template RowUpdateArgs<T> checked_update_rows(const char*, const TableUpdate<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
