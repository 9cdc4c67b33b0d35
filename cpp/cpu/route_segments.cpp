#include "cpu/route_segments.h"

#include <algorithm>

#include "base/parallel.h"
#include "cpu/gate_kernels.h"
#include "cpu/grouped_linear_kernels.h"
#include "cpu/segment_kernels.h"

namespace seqrec_fast {
namespace {

// Segments of one task: their means and logits are still in cache when they are needed.
constexpr std::int64_t kSegments = 64;

}  // namespace

template <class T>
void route_segments_cpu(const RouteSegmentsArgs<T>& args) {
    const std::int64_t segments = args.gate.rows, experts = args.gate.experts, dim = args.dim;
    // The kernels of a task run on its thread.
    parallel_for((segments + kSegments - 1) / kSegments, [&](std::int64_t task) {
        const std::int64_t first = task * kSegments, n = std::min(kSegments, segments - first);
        T* const means = args.means + first * dim;
        T* const logits = args.logits + first * experts;
        segment_sum_cpu<T>({args.values, args.offsets + first, n, dim, true, means});
        const std::int64_t rows[] = {0, n};
        GroupedLinearArgs<T> scores{};
        scores.x = means;
        scores.weight = args.prototypes;
        scores.offsets = rows;
        scores.groups = 1;
        scores.in = dim;
        scores.out = experts;
        scores.y = logits;
        grouped_linear_cpu(scores);
        GateInputs<T> gate = args.gate;
        gate.logits = logits;
        gate.rows = n;
        gate.mask = gate.mask == nullptr ? nullptr : gate.mask + first * gate.mask_stride;
        expert_gate_cpu<T>({gate, args.weights + first * gate.k, args.ids + first * gate.k});
    });
}

template void route_segments_cpu(const RouteSegmentsArgs<float>&);
template void route_segments_cpu(const RouteSegmentsArgs<double>&);

}  // namespace seqrec_fast
