// Sessions to experts on a GPU: means, their products with the prototypes, choices. A product is
// summed in an order of its own, so a route depends on its segment alone; a library's would depend
// on how many there are.
#include "cuda/gate_kernels.h"
#include "cuda/launch.h"
#include "cuda/row_vectors.h"
#include "cuda/segment_kernels.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;

// Some lanes have a segment and an expert; rows of both come from the first cache but once.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    segment_logits_kernel(RouteSegmentsArgs<T> args, RowLanes lanes) {
    const std::int64_t index = lanes.row(), experts = args.gate.experts;
    const bool exists = index < args.gate.rows * experts;
    T logit = 0;
    if (exists) {
        const std::int64_t segment = index / experts, expert = index - segment * experts;
        logit = lanes.dot<T, N>(args.means + segment * args.dim,
                                args.prototypes + expert * args.dim, args.dim);
    }
    logit = lanes.sum(logit);
    if (exists && lanes.lane() == 0) {
        args.logits[index] = logit;
    }
}

}  // namespace
}  // namespace cuda

template <class T>
void route_segments_cuda(const RouteSegmentsArgs<T>& args, std::int64_t events,
                         cudaStream_t stream) {
    const std::int64_t segments = args.gate.rows;
    segment_sum_cuda<T>({args.values, args.offsets, segments, args.dim, true, args.means}, events,
                        stream);
    cuda::with_row_vectors<T>(args.dim, {args.means, args.prototypes}, [&](auto n) {
        const auto lanes = cuda::RowLanes::of(args.dim / n);
        const std::int64_t threads = segments * args.gate.experts * lanes.count();
        cuda::launch("route_segments", cuda::segment_logits_kernel<T, n>,
                     {(threads + cuda::kThreads - 1) / cuda::kThreads, cuda::kThreads}, stream,
                     args, lanes);
    });
    GateInputs<T> gate = args.gate;
    gate.logits = args.logits;
    expert_gate_cuda<T>({gate, args.weights, args.ids}, stream);
}

template void route_segments_cuda(const RouteSegmentsArgs<float>&, std::int64_t, cudaStream_t);
template void route_segments_cuda(const RouteSegmentsArgs<double>&, std::int64_t, cudaStream_t);

}  // namespace seqrec_fast
