#include "ops/row_update.h"

#include "cpu/row_update_kernels.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {

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

#define SEQREC_INSTANTIATE(T)                             \
    template void row_sum(const char*, const RowSum<T>&); \
    template void update_rows(const char*, const TableUpdate<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
