// Sums of the rows of one id on a GPU: some lanes have an id and add its rows in their order, so
// the bits are those of the CPU. Bound by memory, or for few ids with many rows by its latency:
// several rows are on their way at a time.
#include <vector>

#include "cuda/launch.h"
#include "cuda/row_update_kernels.h"
#include "cuda/row_vectors.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;

template <class T>
SEQREC_FN const T* row_of(const RowParts<T>& parts, std::int64_t number, std::int64_t dim) {
    int part = 0;
    while (part + 1 < parts.count && number >= parts.end[part]) {
        ++part;
    }
    number -= part == 0 ? 0 : parts.end[part - 1];
    // there are less than 2^31 rows: narrow divisions are many times as fast
    number = static_cast<unsigned>(number) / static_cast<unsigned>(parts.repeats[part]);
    return parts.rows[part] + number * dim;
}

template <class T, int N>
__global__ void __launch_bounds__(kThreads) row_sum_kernel(RowPartsSum<T> args, RowLanes lanes) {
    constexpr int kAhead = 4;
    using Row = RowVector<T, N>;
    const std::int64_t id = lanes.row();
    if (id >= args.unique) {
        return;
    }
    const std::int64_t first = args.begin[id], last = args.begin[id + 1];
    for (std::int64_t i = lanes.lane() * N; i < args.dim; i += lanes.count() * N) {
        Row sum{};
        for (std::int64_t e = first; e < last; e += kAhead) {
            Row rows[kAhead];
            T factors[kAhead];
            for (int a = 0; a < kAhead; ++a) {
                const std::int64_t number = args.order[e + a < last ? e + a : last - 1];
                rows[a] = Row::load(row_of(args.parts, number, args.dim) + i);
                factors[a] = args.factors == nullptr ? T(1) : args.factors[number];
            }
            for (int a = 0; a < kAhead; ++a) {
                for (int c = 0; c < N && e + a < last; ++c) {
                    sum.values[c] = std::fma(factors[a], rows[a].values[c], sum.values[c]);
                }
            }
        }
        sum.store(args.sums + id * args.dim + i);
    }
}

}  // namespace
}  // namespace cuda

template <class T>
void row_sum_cuda(const RowPartsSum<T>& args, cudaStream_t stream) {
    std::vector<const void*> arrays(args.parts.rows, args.parts.rows + args.parts.count);
    arrays.push_back(args.sums);
    cuda::with_row_vectors_of<T>(args.dim, arrays, [&](auto n) {
        const auto lanes = cuda::RowLanes::of(args.dim / n);
        const std::int64_t threads = args.unique * lanes.count();
        cuda::launch("row_sum", cuda::row_sum_kernel<T, n>,
                     {(threads + cuda::kThreads - 1) / cuda::kThreads, cuda::kThreads}, stream,
                     args, lanes);
    });
}

template void row_sum_cuda(const RowPartsSum<float>&, cudaStream_t);
template void row_sum_cuda(const RowPartsSum<double>&, cudaStream_t);

}  // namespace seqrec_fast
