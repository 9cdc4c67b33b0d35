#include "ops/dispatch.h"

#include "ops/argument_checks.h"

namespace seqrec_fast {

std::vector<std::int64_t> dispatch_offsets(const char* function, const DispatchByExpert& call) {
    const DispatchPlanArgs args = checked_dispatch(function, call);
    const MatrixView<const std::int64_t>& ids = call.expert_ids;
    check_offsets(function, "offsets", call.offsets, ids.rows, "rows of expert_ids");
    check_ids(function, "expert_ids", ids, -1, call.experts);
    std::vector<std::int64_t> offsets(static_cast<std::size_t>(args.experts * args.batch + 1));
    const std::int64_t repeated = dispatch_offsets_cpu(args, offsets.data());
    SEQREC_CHECK(repeated < 0, function, ": expert_ids[", repeated / ids.columns, "] names expert ",
                 ids.data[repeated], " twice; expected each at most once");
    return offsets;
}

void dispatch_plan(const DispatchByExpert& call, const std::vector<std::int64_t>& offsets,
                   std::int64_t* index, std::int64_t* slot, std::int64_t* position) {
    const DispatchPlanArgs args = checked_dispatch("dispatch_by_expert", call);
    dispatch_plan_cpu(args, {offsets.data(), index, slot, position});
}

template <class T>
void dispatch_rows(const char* function, const DispatchRows<T>& call) {
    const DispatchRowsArgs<T> args = checked_dispatch_rows(function, call);
    check_ids(function, "position", call.position, -1, args.nnz);
    expect_fresh(call.rows);
    dispatch_rows_cpu(args);
}

template <class T>
void combine_rows(const char* function, const CombineRows<T>& call) {
    const CombineRowsArgs<T> args = checked_combine_rows(function, call);
    check_ids(function, "position", call.position, -1, args.nnz);
    expect_fresh(call.sums);
    combine_rows_cpu(args);
}

#define SEQREC_INSTANTIATE(T)                                         \
    template void dispatch_rows(const char*, const DispatchRows<T>&); \
    template void combine_rows(const char*, const CombineRows<T>&)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
