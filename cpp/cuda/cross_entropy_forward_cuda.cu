// Cross-entropy over a whole item table on a GPU, tile by tile: logits live in registers only.
//
// A block has a tile of rows and a range of items; every thread keeps a running maximum and sum of
// exponentials for each of its rows. They are merged in a fixed order: within a warp, then over the
// ranges by a second kernel. Bound: float32 arithmetic, an exponential beside `dim` products.
#include <algorithm>

#include "cuda/cross_entropy_sums.h"
#include "cuda/cross_entropy_tiles.h"
#include "cuda/device.h"
#include "cuda/launch.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;

// In shared memory, member by member: it is used once per tile, and registers are scarce.
template <class T>
class SumsOfThread {
  public:
    static constexpr int kMembers = 5;
    static constexpr std::size_t kBytes =
        kMembers * LossShape<T>::kRowsPerThread * kThreads * sizeof(T);

    SEQREC_FN explicit SumsOfThread(T* shared) : own_(shared + threadIdx.x) {}

    SEQREC_FN RowSoFar<T> load(int r) const {
        const T* const from = own_ + r * kMembers * kThreads;
        return {from[0],
                {from[kThreads], from[2 * kThreads]},
                {from[3 * kThreads], from[4 * kThreads]}};
    }
    SEQREC_FN void store(int r, const RowSoFar<T>& row) const {
        T* const to = own_ + r * kMembers * kThreads;
        to[0] = row.largest;
        to[kThreads] = row.sum.sum;
        to[2 * kThreads] = row.sum.lost;
        to[3 * kThreads] = row.logits.sum;
        to[4 * kThreads] = row.logits.lost;
    }

  private:
    T* own_;
};

// A tile's logits of one row of a thread.
template <class T>
SEQREC_FN void add_logits(const CrossEntropyArgs<T>& args, const LossLogits<T>& logits,
                          std::int64_t first_item, std::int64_t target,
                          const T (&products)[LossShape<T>::kItemsPerThread], RowSoFar<T>& row,
                          T* target_logit) {
    using S = LossShape<T>;
    using M = DeviceMath<T>;
    T logit[S::kItemsPerThread], all = 0, largest = row.largest;
    SEQREC_UNROLL
    for (int i = 0; i < S::kItemsPerThread; ++i) {
        const std::int64_t item = first_item + S::item(i);
        const bool exists = item < args.items;
        logit[i] = exists ? logits(products[i], item) : -std::numeric_limits<T>::infinity();
        all += exists ? logit[i] : T(0);
        largest = logit[i] > largest ? logit[i] : largest;
        if (item == target) {
            *target_logit = logit[i];
        }
    }
    if (args.label_smoothing > 0) {
        row.logits.add(all);
    }
    if (largest > row.largest) {
        const T factor = M::exp_of_negative(row.largest - largest);
        row.sum.sum *= factor;
        row.sum.lost *= factor;
        row.largest = largest;
    }
    T sum = 0;
    SEQREC_UNROLL
    for (int i = 0; i < S::kItemsPerThread; ++i) {
        sum += M::exp_of_negative(logit[i] - row.largest);
    }
    row.sum.add(sum);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    log_sum_kernel(CrossEntropyArgs<T> args, std::int64_t ranges, RowPart<T>* parts) {
    using S = LossShape<T>;
    using M = DeviceMath<T>;
    SEQREC_DYNAMIC_SHARED(T, shared);
    SEQREC_SHARED T target_logits[S::kRows];
    const std::int64_t row_tiles = (args.rows + S::kRows - 1) / S::kRows;
    // Tiles of rows that read the same items run together, so that these come from L2.
    const std::int64_t range = blockIdx.x / row_tiles;
    const std::int64_t first_row = blockIdx.x % row_tiles * S::kRows;
    const std::int64_t item_tiles = (args.items + S::kItems - 1) / S::kItems;
    const SumsOfThread<T> sums_of_thread(shared + S::kBytes / sizeof(T));
    for (int r = 0; r < S::kRowsPerThread; ++r) {
        sums_of_thread.store(r, {std::numeric_limits<T>::lowest(), {0, 0}, {0, 0}});
    }
    if (S::thread() < S::kRows) {
        target_logits[S::thread()] = 0;
    }
    const LossLogits<T> logits(args);
    const RowsOf<T> rows{args.hidden, args.rows, args.dim};
    const RowsOf<T> items{args.weight, args.items, args.dim};
    TileProducts<S> products(rows, first_row, items, shared);
    products.each(
        item_tiles * range / ranges, item_tiles * (range + 1) / ranges, [] {},
        [&](std::int64_t tile, const TileSums<S>& sums) {
            SEQREC_UNROLL
            for (int r = 0; r < S::kRowsPerThread; ++r) {
                const std::int64_t row = first_row + S::row(r);
                if (row < args.rows) {
                    RowSoFar<T> so_far = sums_of_thread.load(r);
                    add_logits(args, logits, tile * S::kItems, args.target[row], sums[r], so_far,
                               target_logits + S::row(r));
                    sums_of_thread.store(r, so_far);
                }
            }
        },
        [] {});
    __syncthreads();
    for (int r = 0; r < S::kRowsPerThread; ++r) {
        const RowSoFar<T> mine = sums_of_thread.load(r);
        const T largest = warp_max(mine.largest);
        const T sum =
            warp_sum((mine.sum.sum - mine.sum.lost) * M::exp_of_negative(mine.largest - largest));
        const T all = warp_sum(mine.logits.sum - mine.logits.lost);
        const std::int64_t row = first_row + S::row(r);
        if (lane_index() == 0 && row < args.rows) {
            parts[range * args.rows + row] = {largest, sum, all, target_logits[S::row(r)]};
        }
    }
}

template <class T>
std::int64_t range_count(std::int64_t rows, std::int64_t items) {
    using S = LossShape<T>;
    const std::int64_t row_tiles = std::max<std::int64_t>(1, (rows + S::kRows - 1) / S::kRows);
    const std::int64_t item_tiles = (items + S::kItems - 1) / S::kItems;
    return std::clamp<std::int64_t>(2 * multiprocessors() / row_tiles, 1, item_tiles);
}

}  // namespace
}  // namespace cuda

template <class T>
std::int64_t cross_entropy_workspace_cuda(std::int64_t rows, std::int64_t items) {
    return cuda::range_count<T>(rows, items) * rows *
           static_cast<std::int64_t>(sizeof(cuda::RowPart<T>) / sizeof(T));
}

template <class T>
void cross_entropy_cuda(const CrossEntropyArgs<T>& args, T* workspace, cudaStream_t stream) {
    using S = cuda::LossShape<T>;
    const std::int64_t ranges = cuda::range_count<T>(args.rows, args.items);
    auto* const parts = reinterpret_cast<cuda::RowPart<T>*>(workspace);
    cuda::launch("linear_cross_entropy", cuda::log_sum_kernel<T>,
                 {(args.rows + S::kRows - 1) / S::kRows * ranges, cuda::kThreads,
                  S::kBytes + cuda::SumsOfThread<T>::kBytes},
                 stream, args, ranges, parts);
    cuda::cross_entropy_losses(args, ranges, parts, stream);
}

#define SEQREC_INSTANTIATE(T)                                                          \
    template std::int64_t cross_entropy_workspace_cuda<T>(std::int64_t, std::int64_t); \
    template void cross_entropy_cuda(const CrossEntropyArgs<T>&, T*, cudaStream_t)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
