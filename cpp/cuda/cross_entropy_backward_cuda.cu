// Gradients of the cross-entropy with respect to the scores of some items on a GPU, from products
// that are computed anew. Those of rows and items are products of matrices with it, panel by panel.
#include "cuda/cross_entropy_tiles.h"
#include "cuda/launch.h"

namespace seqrec_fast {
namespace cuda {
namespace {

template <class T>
__global__ void __launch_bounds__(LossShape<T>::kThreads)
    score_grad_kernel(CrossEntropyArgs<T> args, std::int64_t first_item, std::int64_t n_items,
                      T* dscores) {
    using S = LossShape<T>;
    using M = DeviceMath<T>;
    SEQREC_DYNAMIC_SHARED(T, shared);
    const std::int64_t row_tiles = (args.rows + S::kRows - 1) / S::kRows;
    const std::int64_t first_row = blockIdx.x % row_tiles * S::kRows;
    const std::int64_t item_tile = blockIdx.x / row_tiles;
    const LossLogits<T> logits(args);
    const T evenly = static_cast<T>(args.label_smoothing / static_cast<double>(args.items));
    const T own = static_cast<T>(1 - args.label_smoothing);
    const RowsOf<T> rows{args.hidden, args.rows, args.dim};
    const RowsOf<T> items{args.weight + first_item * args.dim, n_items, args.dim};
    TileProducts<S> products(rows, first_row, items, shared);
    products.each(
        item_tile, item_tile + 1, [] {},
        [&](std::int64_t tile, const TileSums<S>& sums) {
            SEQREC_UNROLL
            for (int r = 0; r < S::kRowsPerThread; ++r) {
                const std::int64_t row = first_row + S::row(r);
                if (row >= args.rows) {
                    continue;
                }
                const T log_sum = args.log_sum[row], row_grad = args.row_grad[row];
                const bool counts = args.target[row] >= 0;
                const std::int64_t first = tile * S::kItems + S::item(0), rest = n_items - first;
                const int left = rest < S::kItems ? static_cast<int>(rest) : S::kItems;
                // Of the thread's items; negative or beyond them for most rows.
                const std::int64_t target = args.target[row] - first_item - first;
                T* const to = dscores + row * n_items + first;
                SEQREC_UNROLL
                for (int i = 0; i < S::kItemsPerThread; ++i) {
                    constexpr int kStep = S::kItemThreads;
                    if (i * kStep < left) {
                        const T logit = logits(sums[r][i], first_item + first + i * kStep);
                        T grad = M::exp_of_negative(logit - log_sum) - evenly;
                        grad -= target == i * kStep ? own : T(0);
                        grad *= row_grad * logits.cap_gradient(logit);
                        to[i * kStep] = counts ? grad : T(0);
                    }
                }
            }
        },
        [] {});
}

}  // namespace
}  // namespace cuda

template <class T>
void cross_entropy_score_grad_cuda(const CrossEntropyArgs<T>& args, std::int64_t first_item,
                                   std::int64_t n_items, T* dscores, cudaStream_t stream) {
    using S = cuda::LossShape<T>;
    const std::int64_t row_tiles = (args.rows + S::kRows - 1) / S::kRows;
    const std::int64_t item_tiles = (n_items + S::kItems - 1) / S::kItems;
    cuda::launch("linear_cross_entropy", cuda::score_grad_kernel<T>,
                 {row_tiles * item_tiles, S::kThreads, S::kBytes}, stream, args, first_item,
                 n_items, dscores);
}

template void cross_entropy_score_grad_cuda(const CrossEntropyArgs<float>&, std::int64_t,
                                            std::int64_t, float*, cudaStream_t);
template void cross_entropy_score_grad_cuda(const CrossEntropyArgs<double>&, std::int64_t,
                                            std::int64_t, double*, cudaStream_t);

}  // namespace seqrec_fast
