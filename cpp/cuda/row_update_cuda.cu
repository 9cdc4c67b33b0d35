// Updates of some rows of a table on a GPU: a thread has 16 bytes of a row. Bound by memory.
#include "cells/row_update_cell-inl.h"
#include "cuda/device_math.h"
#include "cuda/launch.h"
#include "cuda/row_update_kernels.h"
#include "cuda/row_vectors.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;

template <class T, int N>
struct StateVector {
    T* at;
    RowVector<T, N> values;

    SEQREC_FN explicit StateVector(T* place) : at(place) {
        if (at != nullptr) {
            values = RowVector<T, N>::load(at);
        }
    }
    SEQREC_FN ~StateVector() {
        if (at != nullptr) {
            values.store(at);
        }
    }
};

template <class T>
struct StateElement {
    T& value;
    SEQREC_FN T load() const { return value; }
    SEQREC_FN void store(T v) const { value = v; }
};

template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    row_update_kernel(RowUpdateArgs<T> args, RowUpdateFactors<T> factors) {
    using M = DeviceMath<T>;
    using Row = RowVector<T, N>;
    const std::int64_t vectors = args.dim / N;
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (index >= args.n * vectors) {
        return;
    }
    const std::int64_t i = index / vectors, column = (index - i * vectors) * N;
    const std::int64_t at = args.ids[i] * args.dim + column;
    const RowUpdateCell<M> cell(factors);
    const RowUpdate<T>& update = args.update;
    const bool has_mean = update.rule == UpdateRule::adam || update.momentum != 0;
    const bool has_square = update.rule != UpdateRule::sgd;
    StateVector<T, N> mean(has_mean ? update.mean + at : nullptr);
    StateVector<T, N> square(has_square ? update.square + at : nullptr);
    const Row gradient = Row::load(args.gradients + i * args.dim + column);
    Row row = Row::load(args.table + at);
    for (int c = 0; c < N; ++c) {
        row.values[c] =
            cell.apply(row.values[c], gradient.values[c], StateElement<T>{mean.values.values[c]},
                       StateElement<T>{square.values.values[c]});
    }
    row.store(args.table + at);
}

}  // namespace
}  // namespace cuda

template <class T>
void row_update_cuda(const RowUpdateArgs<T>& args, cudaStream_t stream) {
    const RowUpdate<T>& update = args.update;
    cuda::with_row_vectors<T>(
        args.dim, {args.gradients, args.table, update.mean, update.square}, [&](auto n) {
            const std::int64_t threads = args.n * (args.dim / n);
            cuda::launch("update_rows", cuda::row_update_kernel<T, n>,
                         {(threads + cuda::kThreads - 1) / cuda::kThreads, cuda::kThreads}, stream,
                         args, RowUpdateFactors<T>(update));
        });
}

template void row_update_cuda(const RowUpdateArgs<float>&, cudaStream_t);
template void row_update_cuda(const RowUpdateArgs<double>&, cudaStream_t);

}  // namespace seqrec_fast
