// Sums over segments, and rows of segments spread over their events, on a GPU. Bound by memory.
#include "cuda/launch.h"
#include "cuda/row_vectors.h"
#include "cuda/scan.h"
#include "cuda/segment_kernels.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;

// A mean is divided, not multiplied by a rounded inverse.
template <class T, int N>
SEQREC_FN void divide(RowVector<T, N>& row, std::int64_t n) {
    if constexpr (std::is_floating_point_v<T>) {
        for (int c = 0; c < N; ++c) {
            row.values[c] /= static_cast<T>(n);
        }
    }
}

// A thread has some columns of a segment and adds its rows in their order; several are read ahead.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    segment_sum_kernel(SegmentSumArgs<T> args, std::int64_t events) {
    constexpr int kAhead = 8;
    using Row = RowVector<T, N>;
    const std::int64_t dim = args.dim, vectors = dim / N;
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (index >= args.segments * vectors) {
        return;
    }
    const std::int64_t segment = index / vectors, i = (index - segment * vectors) * N;
    const std::int64_t first = args.offsets[segment] < 0 ? 0 : args.offsets[segment];
    const std::int64_t end = args.offsets[segment + 1];
    const std::int64_t last = end > events ? events : end;
    Row sum{};
    const auto add = [&](const Row& row) {
        for (int c = 0; c < N; ++c) {
            sum.values[c] += row.values[c];
        }
    };
    std::int64_t n = first;
    for (; n + kAhead <= last; n += kAhead) {
        Row rows[kAhead];
        for (int a = 0; a < kAhead; ++a) {
            rows[a] = Row::load(args.values + (n + a) * dim + i);
        }
        for (int a = 0; a < kAhead; ++a) {
            add(rows[a]);
        }
    }
    for (; n < last; ++n) {
        add(Row::load(args.values + n * dim + i));
    }
    if (args.mean && first < last) {
        divide(sum, last - first);
    }
    sum.store(args.out + segment * dim + i);
}

// A warp has 32 events: each lane finds the segment of one, then all write their rows, which are
// neighbours, from end to end.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    expand_segments_kernel(ExpandSegmentsArgs<T> args, std::int64_t events) {
    const std::int64_t first = warp_index() * kWarp, dim = args.dim;
    if (first >= events) {
        return;
    }
    // The last of those that begin here: the others are empty.
    std::int64_t segment = count_up_to(args.offsets + 1, args.segments - 1, first + lane_index());
    const std::int64_t length = args.offsets[segment + 1] - args.offsets[segment];
    const std::int64_t vectors = dim / N;
    const std::int64_t count = (events - first < kWarp ? events - first : kWarp) * vectors;
    T* const out = args.out + first * dim;
    // lane + 32 e is vector `column` of event `at`; steps save a division each
    std::int64_t at = lane_index() / vectors, column = lane_index() - at * vectors;
    const std::int64_t step = kWarp / vectors, rest = kWarp - step * vectors;
    for (std::int64_t e = lane_index(); e - lane_index() < count; e += kWarp) {
        const int from = static_cast<int>(at) % kWarp;  // every lane of the warp gets here
        const std::int64_t s = __shfl_sync(kAllLanes, segment, from);
        const std::int64_t rows = __shfl_sync(kAllLanes, length, from);
        if (e < count) {
            auto row = RowVector<T, N>::load(args.rows + s * dim + column * N);
            if (args.mean) {
                divide(row, rows);
            }
            row.store(out + e * N);
        }
        column += rest;
        at += step + (column >= vectors ? 1 : 0);
        column -= column >= vectors ? vectors : 0;
    }
}

}  // namespace
}  // namespace cuda

template <class T>
void segment_sum_cuda(const SegmentSumArgs<T>& args, std::int64_t events, cudaStream_t stream) {
    cuda::with_row_vectors<T>(args.dim, {args.values, args.out}, [&](auto n) {
        const std::int64_t threads = args.segments * (args.dim / n);
        cuda::launch("segment_sum", cuda::segment_sum_kernel<T, n>,
                     {(threads + cuda::kThreads - 1) / cuda::kThreads, cuda::kThreads}, stream,
                     args, events);
    });
}

template <class T>
void expand_segments_cuda(const ExpandSegmentsArgs<T>& args, std::int64_t events,
                          cudaStream_t stream) {
    if (args.dim == 0 || args.segments == 0) {
        return;
    }
    cuda::with_row_vectors<T>(args.dim, {args.rows, args.out}, [&](auto n) {
        cuda::launch("expand_segments", cuda::expand_segments_kernel<T, n>,
                     {(events + cuda::kThreads - 1) / cuda::kThreads, cuda::kThreads}, stream, args,
                     events);
    });
}

template void segment_sum_cuda(const SegmentSumArgs<float>&, std::int64_t, cudaStream_t);
template void segment_sum_cuda(const SegmentSumArgs<double>&, std::int64_t, cudaStream_t);
template void expand_segments_cuda(const ExpandSegmentsArgs<float>&, std::int64_t, cudaStream_t);
template void expand_segments_cuda(const ExpandSegmentsArgs<double>&, std::int64_t, cudaStream_t);
template void expand_segments_cuda(const ExpandSegmentsArgs<std::int64_t>&, std::int64_t,
                                   cudaStream_t);

}  // namespace seqrec_fast
