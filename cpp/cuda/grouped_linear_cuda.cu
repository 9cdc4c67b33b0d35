// One linear layer per group of rows on a GPU. A block has a tile of rows of one group and a tile
// of its outputs; products are summed in the order of the terms (row_tiles.h), so that a row does
// not depend on the others; or on tensor cores. Bound by the multiply-adds.
#include <type_traits>

#include "cuda/group_tiles.h"
#include "cuda/grouped_linear_kernels.h"
#include "cuda/launch.h"
#include "cuda/row_tensor_tiles.h"

namespace seqrec_fast {
namespace cuda {
namespace {

// Of many rows a thread has more, for fewer reads of shared memory; small groups do not fill them.
template <class T, bool kMany>
using GroupedShape =
    std::conditional_t<std::is_same_v<T, float>, TileShape<float, kMany ? 8 : 4, 4, 16>,
                       TileShape<T, kMany ? 4 : 2, 4, 16>>;

// Blocks of a multiprocessor, where the sums leave registers for more than one.
template <class S>
constexpr int kBlocks = S::kRowsPerThread > 4 ? 1 : 2;

template <class S, class T>
__global__ void __launch_bounds__(S::kThreads, kBlocks<S>)
    grouped_linear_kernel(GroupedLinearArgs<T> args, std::int64_t rows, std::int64_t out_tiles) {
    SEQREC_DYNAMIC_SHARED(typename S::Shared, shared);
    const std::int64_t row_tile = blockIdx.x / out_tiles, out_tile = blockIdx.x % out_tiles;
    const GroupTile tile = group_tile(args.offsets, args.groups, rows, S::kRows, row_tile);
    if (tile.count == 0) {
        return;
    }
    const RowsOf<T> inputs{args.x + tile.first * args.in, tile.count, args.in};
    const RowsOf<T> weights{args.weight + tile.group * args.out * args.in, args.out, args.in};
    const T* const bias = args.bias == nullptr ? nullptr : args.bias + tile.group * args.out;
    TileProducts<S> products(inputs, 0, weights, shared);
    products.each(
        out_tile, out_tile + 1, [] {},
        [&](std::int64_t, const TileSums<S>& sums) {
            SEQREC_UNROLL
            for (int i = 0; i < S::kItemsPerThread; ++i) {
                const std::int64_t o = out_tile * S::kItems + S::item(i);
                const T own = bias == nullptr || o >= args.out ? T(0) : bias[o];
                SEQREC_UNROLL
                for (int r = 0; r < S::kRowsPerThread; ++r) {
                    if (S::row(r) < tile.count && o < args.out) {
                        args.y[(tile.first + S::row(r)) * args.out + o] = sums[r][i] + own;
                    }
                }
            }
        },
        [] {});
}

template <class S, class T>
void run_grouped_linear(const GroupedLinearArgs<T>& args, std::int64_t rows, cudaStream_t stream) {
    const std::int64_t out_tiles = (args.out + S::kItems - 1) / S::kItems;
    launch("grouped_linear", grouped_linear_kernel<S, T>,
           {group_tiles(rows, args.groups, S::kRows) * out_tiles, S::kThreads, S::kBytes}, stream,
           args, rows, out_tiles);
}

}  // namespace
}  // namespace cuda

template <class T>
void grouped_linear_cuda(const GroupedLinearArgs<T>& args, std::int64_t rows, bool tensor_cores,
                         cudaStream_t stream) {
    if constexpr (std::is_same_v<T, float>) {
        if (tensor_cores) {
            return cuda::run_grouped_linear<cuda::TensorTileShape>(args, rows, stream);
        }
    }
    using Many = cuda::GroupedShape<T, true>;
    if (rows / Many::kRows >= 4 * args.groups) {
        cuda::run_grouped_linear<Many>(args, rows, stream);
    } else {
        cuda::run_grouped_linear<cuda::GroupedShape<T, false>>(args, rows, stream);
    }
}

template void grouped_linear_cuda(const GroupedLinearArgs<float>&, std::int64_t, bool,
                                  cudaStream_t);
template void grouped_linear_cuda(const GroupedLinearArgs<double>&, std::int64_t, bool,
                                  cudaStream_t);

}  // namespace seqrec_fast
