#include "ops/cuda/dispatch.h"

#include <limits>

namespace seqrec_fast {
namespace {

// Kernels number choices in 32 bits.
void check_choices(const char* function, std::int64_t events, std::int64_t k) {
    constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
    SEQREC_CHECK(k == 0 || events <= kMost / k, function, ": there are ", events, " events with ",
                 k, " choices; expected up to ", kMost, " choices in all on a GPU");
}

DispatchPlanCall checked_plan(const char* function, const DispatchByExpert& call,
                              const MatrixView<std::uint8_t>& workspace) {
    const DispatchPlanArgs args = checked_dispatch(function, call);
    const std::int64_t events = call.expert_ids.rows;
    check_choices(function, events, args.k);
    SEQREC_CHECK(args.batch > 0 || events == 0, function, ": offsets end at 0; expected ", events,
                 ", the number of rows of expert_ids");
    check_required(function, "workspace", workspace, 1, dispatch_workspace_bytes(args, events));
    return {args, events, workspace.data};
}

}  // namespace

std::int64_t dispatch_workspace(const char* function, std::int64_t events, std::int64_t k,
                                std::int64_t batch, std::int64_t experts) {
    check_num_experts(function, experts);
    SEQREC_CHECK(events >= 0 && k >= 0 && batch >= 0, function, ": sizes are ", events, ", ", k,
                 " and ", batch, "; expected 0 or more");
    check_choices(function, events, k);
    return dispatch_workspace_bytes({nullptr, nullptr, batch, k, experts, -1}, events);
}

void dispatch_offsets(const char* function, const DispatchByExpert& call,
                      const MatrixView<std::uint8_t>& workspace,
                      const MatrixView<std::int64_t>& parts, const MatrixView<std::int64_t>& status,
                      cudaStream_t stream) {
    const DispatchPlanCall plan = checked_plan(function, call, workspace);
    check_required(function, "subsequence_offsets", parts, 1,
                   plan.args.experts * plan.args.batch + 1);
    check_required(function, "status", status, 1, 2);
    dispatch_offsets_cuda(plan, parts.data, status.data, stream);
}

void dispatch_plan(const char* function, const DispatchByExpert& call,
                   const MatrixView<std::uint8_t>& workspace,
                   const MatrixView<const std::int64_t>& parts,
                   const MatrixView<std::int64_t>& index, const MatrixView<std::int64_t>& slot,
                   const MatrixView<std::int64_t>& position, cudaStream_t stream) {
    const DispatchPlanCall plan = checked_plan(function, call, workspace);
    check_required(function, "subsequence_offsets", parts, 1,
                   plan.args.experts * plan.args.batch + 1);
    check_required(function, "index", index, 1, index.columns);
    check_required(function, "slot", slot, 1, index.columns);
    check_required(function, "position", position, plan.events, plan.args.k);
    dispatch_plan_cuda(plan, {parts.data, index.data, slot.data, position.data}, stream);
}

template <class T>
void dispatch_rows(const char* function, const DispatchRows<T>& call, cudaStream_t stream) {
    const DispatchRowsArgs<T> args = checked_dispatch_rows(function, call);
    check_choices(function, args.events, args.k);
    dispatch_rows_cuda(args, stream);
}

template <class T>
void combine_rows(const char* function, const CombineRows<T>& call, cudaStream_t stream) {
    const CombineRowsArgs<T> args = checked_combine_rows(function, call);
    check_choices(function, args.events, args.k);
    combine_rows_cuda(args, stream);
}

#define SEQREC_INSTANTIATE(T)                                                       \
    template void dispatch_rows(const char*, const DispatchRows<T>&, cudaStream_t); \
    template void combine_rows(const char*, const CombineRows<T>&, cudaStream_t)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
