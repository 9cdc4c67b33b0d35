// Rows to their experts and back on a GPU. Bound by memory: each row is read and written once, 16
// bytes to a lane, and the lanes of a warp take neighbouring events.
#include <cmath>

#include "cuda/dispatch_kernels.h"
#include "cuda/launch.h"
#include "cuda/row_vectors.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;

SEQREC_FN bool is_row(std::int64_t row, std::int64_t rows) {
    return row >= 0 && row < rows;
}

// Some lanes have a choice.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    dispatch_rows_kernel(DispatchRowsArgs<T> args, RowLanes lanes) {
    const std::int64_t slot = lanes.row();
    const bool exists = slot < args.events * args.k;
    const std::int64_t row = exists ? args.position[slot] : -1;
    T dot = 0;
    if (is_row(row, args.nnz)) {
        // events * k is less than 2^31: narrow divisions are many times as fast
        const std::int64_t n = static_cast<unsigned>(slot) / static_cast<unsigned>(args.k);
        const T* const from = args.values + n * args.dim;
        const T weight = args.weights == nullptr ? T(1) : args.weights[slot];
        T* const to = args.rows + row * args.dim;
        for (std::int64_t i = lanes.lane() * N; i < args.dim; i += lanes.count() * N) {
            auto x = RowVector<T, N>::load(from + i);
            for (int c = 0; c < N; ++c) {
                x.values[c] *= weight;
            }
            x.store(to + i);
        }
        if (args.other != nullptr) {
            // what was read is still in the first cache
            dot = lanes.dot<T, N>(from, args.other + row * args.dim, args.dim);
        }
    }
    if (args.other != nullptr) {
        dot = lanes.sum(dot);
        if (exists && lanes.lane() == 0) {
            args.dots[slot] = dot;
        }
    }
}

// Some lanes have an event, and sum its rows in the order of its choices.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    combine_rows_kernel(CombineRowsArgs<T> args, RowLanes lanes) {
    const std::int64_t n = lanes.row();
    const bool exists = n < args.events;
    const std::int64_t* const position = args.position + n * args.k;
    const T* const weights = args.weights == nullptr ? nullptr : args.weights + n * args.k;
    for (std::int64_t i = lanes.lane() * N; exists && i < args.dim; i += lanes.count() * N) {
        RowVector<T, N> sum{};
        for (std::int64_t j = 0; j < args.k; ++j) {
            if (is_row(position[j], args.nnz)) {
                const auto row = RowVector<T, N>::load(args.rows + position[j] * args.dim + i);
                for (int c = 0; c < N; ++c) {
                    sum.values[c] = weights == nullptr
                                        ? sum.values[c] + row.values[c]
                                        : std::fma(weights[j], row.values[c], sum.values[c]);
                }
            }
        }
        sum.store(args.sums + n * args.dim + i);
    }
    for (std::int64_t j = 0; args.other != nullptr && j < args.k; ++j) {
        const std::int64_t row = exists ? position[j] : -1;
        T dot = 0;
        if (is_row(row, args.nnz)) {
            dot = lanes.dot<T, N>(args.other + n * args.dim, args.rows + row * args.dim, args.dim);
        }
        dot = lanes.sum(dot);
        if (exists && lanes.lane() == 0) {
            args.dots[n * args.k + j] = dot;
        }
    }
}

LaunchShape shape_of(std::int64_t rows, RowLanes lanes) {
    return {(rows * lanes.count() + kThreads - 1) / kThreads, kThreads};
}

}  // namespace
}  // namespace cuda

template <class T>
void dispatch_rows_cuda(const DispatchRowsArgs<T>& args, cudaStream_t stream) {
    cuda::with_row_vectors<T>(args.dim, {args.values, args.other, args.rows}, [&](auto n) {
        const auto lanes = cuda::RowLanes::of(args.dim / n);
        cuda::launch("dispatch_rows", cuda::dispatch_rows_kernel<T, n>,
                     cuda::shape_of(args.events * args.k, lanes), stream, args, lanes);
    });
}

template <class T>
void combine_rows_cuda(const CombineRowsArgs<T>& args, cudaStream_t stream) {
    cuda::with_row_vectors<T>(args.dim, {args.rows, args.other, args.sums}, [&](auto n) {
        const auto lanes = cuda::RowLanes::of(args.dim / n);
        cuda::launch("combine_rows", cuda::combine_rows_kernel<T, n>,
                     cuda::shape_of(args.events, lanes), stream, args, lanes);
    });
}

#define SEQREC_INSTANTIATE(T)                                                   \
    template void dispatch_rows_cuda(const DispatchRowsArgs<T>&, cudaStream_t); \
    template void combine_rows_cuda(const CombineRowsArgs<T>&, cudaStream_t)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
