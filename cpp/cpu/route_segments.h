// Sessions to experts in one pass, on the CPU.
#pragma once

#include "args/route_segments_args.h"

namespace seqrec_fast {

template <class T>
void route_segments_cpu(const RouteSegmentsArgs<T>& args);

}  // namespace seqrec_fast
