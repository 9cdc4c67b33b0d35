// Sequences split by expert, and put together again, on the CPU.
#pragma once

#include "args/dispatch_args.h"

namespace seqrec_fast {

// Writes where each of the M * B subsequences begins (M * B + 1). Returns the position in
// expert_ids of a choice that its row has already, or -1.
std::int64_t dispatch_offsets_cpu(const DispatchPlanArgs& args, std::int64_t* offsets);

void dispatch_plan_cpu(const DispatchPlanArgs& args, const DispatchPlan& plan);

template <class T>
void dispatch_rows_cpu(const DispatchRowsArgs<T>& args);

template <class T>
void combine_rows_cpu(const CombineRowsArgs<T>& args);

}  // namespace seqrec_fast
