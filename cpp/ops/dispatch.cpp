#include "ops/dispatch.h"

#include <limits>

#include "cpu/dispatch_kernels.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {
namespace {

DispatchPlanArgs plan_args(const DispatchByExpert& call) {
    return {call.offsets.data,       call.expert_ids.data, call.offsets.columns - 1,
            call.expert_ids.columns, call.experts,         call.capacity};
}

}  // namespace

std::vector<std::int64_t> dispatch_offsets(const char* function, const DispatchByExpert& call) {
    constexpr std::int64_t kMostExperts = std::numeric_limits<std::int32_t>::max();
    const MatrixView<const std::int64_t>& ids = call.expert_ids;
    SEQREC_CHECK(call.experts >= 1 && call.experts <= kMostExperts, function, ": num_experts is ",
                 call.experts, "; expected 1 to ", kMostExperts);
    SEQREC_CHECK(call.capacity >= -1, function, ": capacity is ", call.capacity,
                 "; expected 0 or more");
    check_required(function, "expert_ids", ids, ids.rows, ids.columns);
    SEQREC_CHECK(ids.contiguous(), function, ": expert_ids is not contiguous");
    check_offsets(function, "offsets", call.offsets, ids.rows, "rows of expert_ids");
    check_ids(function, "expert_ids", ids, -1, call.experts);
    const DispatchPlanArgs args = plan_args(call);
    std::vector<std::int64_t> offsets(static_cast<std::size_t>(args.experts * args.batch + 1));
    const std::int64_t repeated = dispatch_offsets_cpu(args, offsets.data());
    SEQREC_CHECK(repeated < 0, function, ": expert_ids[", repeated / ids.columns, "] names expert ",
                 ids.data[repeated], " twice; expected each at most once");
    return offsets;
}

void dispatch_plan(const DispatchByExpert& call, const std::vector<std::int64_t>& offsets,
                   std::int64_t* index, std::int64_t* slot, std::int64_t* position) {
    dispatch_plan_cpu(plan_args(call), {offsets.data(), index, slot, position});
}

template <class T>
void dispatch_rows(const char* function, const DispatchRows<T>& call) {
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
    check_ids(function, "position", call.position, -1, nnz);
    expect_fresh(call.rows);
    dispatch_rows_cpu<T>({call.values.data, call.position.data, call.weights.data, call.other.data,
                          events, k, dim, nnz, call.rows.data, call.dots.data});
}

template <class T>
void combine_rows(const char* function, const CombineRows<T>& call) {
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
    check_ids(function, "position", call.position, -1, nnz);
    expect_fresh(call.sums);
    combine_rows_cpu<T>({call.rows.data, call.position.data, call.weights.data, call.other.data,
                         events, k, dim, nnz, call.sums.data, call.dots.data});
}

#define SEQREC_INSTANTIATE(T)                                         \
    template void dispatch_rows(const char*, const DispatchRows<T>&); \
    template void combine_rows(const char*, const CombineRows<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
