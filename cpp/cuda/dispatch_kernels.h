// Sequences split by expert, and put together again, on a GPU: as args/dispatch_args.h, with
// pointers to its memory.
#pragma once

#include "args/dispatch_args.h"
#include "cuda/simt.h"

namespace seqrec_fast {

// A plan is made in two steps, since what it has room for is known after the first: the one writes
// offsets, the other the rest. Both share `workspace`, which keeps counts from one to the other.
struct DispatchPlanCall {
    DispatchPlanArgs args;
    std::int64_t events;
    unsigned char* workspace;  // dispatch_workspace_bytes(); aligned to 16 bytes
};

std::int64_t dispatch_workspace_bytes(const DispatchPlanArgs& args, std::int64_t events);

// Writes offsets (experts * batch + 1), and status[0] = offsets[experts * batch]. Sets status[1]
// to 1 if the call is wrong: an expert out of range or twice in a row, offsets that are no
// partition of the events. Nothing outside the arrays is touched then, and there is no plan.
void dispatch_offsets_cuda(const DispatchPlanCall& call, std::int64_t* offsets,
                           std::int64_t* status, cudaStream_t stream);

// After dispatch_offsets_cuda for the same call, if it was right.
void dispatch_plan_cuda(const DispatchPlanCall& call, const DispatchPlan& plan,
                        cudaStream_t stream);

// events * k is less than 2^31. A position outside of the rows counts as -1.
template <class T>
void dispatch_rows_cuda(const DispatchRowsArgs<T>& args, cudaStream_t stream);

template <class T>
void combine_rows_cuda(const CombineRowsArgs<T>& args, cudaStream_t stream);

}  // namespace seqrec_fast
