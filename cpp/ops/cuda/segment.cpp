#include "ops/cuda/segment.h"

#include "cuda/segment_kernels.h"

namespace seqrec_fast {

template <class Time>
void segment_starts(const char* function, const SessionSegments<Time>& call,
                    const MatrixView<std::uint8_t>& starts, const MatrixView<std::int64_t>& status,
                    cudaStream_t stream) {
    const SegmentCutArgs<Time> args = checked_session_segments(function, call);
    const std::int64_t events = starts.columns;
    check_required(function, "starts", starts, 1, events);
    check_required(function, "status", status, 1, 1);
    check_shape(function, "times", call.times, 1, events);
    segment_starts_cuda(args, events, starts.data, status.data, stream);
}

template <class T>
void segment_sum(const char* function, const SegmentSum<T>& call, cudaStream_t stream) {
    segment_sum_cuda(checked_segment_sum(function, call), call.values.rows, stream);
}

template <class T>
void expand_segments(const char* function, const ExpandSegments<T>& call, cudaStream_t stream) {
    const ExpandSegmentsArgs<T> args = checked_expand_segments(function, call);
    SEQREC_CHECK(args.segments > 0 || call.out.rows == 0, function,
                 ": segment_offsets end at 0; expected ", call.out.rows, ", the number of events");
    expand_segments_cuda(args, call.out.rows, stream);
}

template <class T>
void route_segments(const char* function, const RouteSegments<T>& call, cudaStream_t stream) {
    route_segments_cuda(checked_route_segments(function, call), call.values.rows, stream);
}

template void segment_starts(const char*, const SessionSegments<double>&,
                             const MatrixView<std::uint8_t>&, const MatrixView<std::int64_t>&,
                             cudaStream_t);
template void segment_starts(const char*, const SessionSegments<std::int64_t>&,
                             const MatrixView<std::uint8_t>&, const MatrixView<std::int64_t>&,
                             cudaStream_t);
template void segment_sum(const char*, const SegmentSum<float>&, cudaStream_t);
template void segment_sum(const char*, const SegmentSum<double>&, cudaStream_t);
template void expand_segments(const char*, const ExpandSegments<float>&, cudaStream_t);
template void expand_segments(const char*, const ExpandSegments<double>&, cudaStream_t);
template void expand_segments(const char*, const ExpandSegments<std::int64_t>&, cudaStream_t);
template void route_segments(const char*, const RouteSegments<float>&, cudaStream_t);
template void route_segments(const char*, const RouteSegments<double>&, cudaStream_t);

}  // namespace seqrec_fast
