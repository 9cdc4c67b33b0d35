// What dispatch asks of its arguments, on every device.
#include <limits>

#include "ops/argument_checks.h"
#include "ops/dispatch.h"

namespace seqrec_fast {

void check_num_experts(const char* function, std::int64_t experts) {
    constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
    SEQREC_CHECK(experts >= 1 && experts <= kMost, function, ": num_experts is ", experts,
                 "; expected 1 to ", kMost);
}

DispatchPlanArgs checked_dispatch(const char* function, const DispatchByExpert& call) {
    const MatrixView<const std::int64_t>& ids = call.expert_ids;
    check_num_experts(function, call.experts);
    SEQREC_CHECK(call.capacity >= -1, function, ": capacity is ", call.capacity,
                 "; expected 0 or more");
    check_required(function, "expert_ids", ids, ids.rows, ids.columns);
    SEQREC_CHECK(ids.contiguous(), function, ": expert_ids is not contiguous");
    check_offsets_shape(function, "offsets", call.offsets);
    return {call.offsets.data, ids.data,     call.offsets.columns - 1,
            ids.columns,       call.experts, call.capacity};
}

template <class T>
DispatchRowsArgs<T> checked_dispatch_rows(const char* function, const DispatchRows<T>& call) {
    const std::int64_t events = call.values.rows, dim = call.values.columns;
    const std::int64_t k = call.position.columns, nnz = call.rows.rows;
    check_required(function, "values", call.values, events, dim);
    check_required(function, "position", call.position, events, k);
    check_shape(function, "weights", call.weights, events, k);
    check_required(function, "dispatched", call.rows, nnz, dim);
    if (call.other.present()) {
        check_required(function, "dispatched", call.other, nnz, dim);
        check_required(function, "dots", call.dots, events, k);
    }
    return {call.values.data,
            call.position.data,
            call.weights.data,
            call.other.data,
            events,
            k,
            dim,
            nnz,
            call.rows.data,
            call.dots.data};
}

template <class T>
CombineRowsArgs<T> checked_combine_rows(const char* function, const CombineRows<T>& call) {
    const std::int64_t events = call.sums.rows, dim = call.rows.columns;
    const std::int64_t k = call.position.columns, nnz = call.rows.rows;
    check_required(function, "dispatched", call.rows, nnz, dim);
    check_required(function, "position", call.position, events, k);
    check_shape(function, "weights", call.weights, events, k);
    check_required(function, "output", call.sums, events, dim);
    if (call.other.present()) {
        check_required(function, "values", call.other, events, dim);
        check_required(function, "dots", call.dots, events, k);
    }
    return {
        call.rows.data, call.position.data, call.weights.data, call.other.data, events, k, dim, nnz,
        call.sums.data, call.dots.data};
}

#define SEQREC_INSTANTIATE(T)                                                                \
    template DispatchRowsArgs<T> checked_dispatch_rows(const char*, const DispatchRows<T>&); \
    template CombineRowsArgs<T> checked_combine_rows(const char*, const CombineRows<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
