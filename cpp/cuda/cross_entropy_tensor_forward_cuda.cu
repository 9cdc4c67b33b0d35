// Cross-entropy over a whole item table on a GPU's tensor cores: logits live in registers only.
//
// A block keeps 128 rows, or 64 wide ones, and takes a range of items tile by tile. Every
// thread has a running maximum and sum of exponentials for its share of the items of two rows; they
// are merged in a fixed order. Bound: an exponential and some six instructions beside `dim`
// products of a logit.
#include "cuda/cross_entropy_sums.h"
#include "cuda/cross_entropy_tensor.h"
#include "cuda/launch.h"

namespace seqrec_fast {
namespace cuda {
namespace {

// Below any logit that counts; twice as much is finite.
constexpr float kNoLogit = -1e38F;

// A tile's logits of a row.
template <int kCount>
SEQREC_FN void add_logits(const float (&logit)[kCount], RowSoFar<float>& row) {
    float largest = row.largest;
    SEQREC_UNROLL
    for (int c = 0; c < kCount; ++c) {
        largest = std::fmax(largest, logit[c]);
    }
    const float factor = fast_exp(row.largest - largest);
    row.sum.sum *= factor;
    row.sum.lost *= factor;
    row.largest = largest;
    float sum = 0;
    SEQREC_UNROLL
    for (int c = 0; c < kCount; ++c) {
        sum += fast_exp(logit[c] - largest);
    }
    row.sum.add(sum);
}

template <class Shape>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    tensor_log_sum_kernel(CrossEntropyArgs<float> args, Bfloat16Tables tables, std::int64_t ranges,
                          RowPart<float>* parts) {
    using S = Shape;
    SEQREC_DYNAMIC_SHARED(std::uint16_t, shared);
    SEQREC_SHARED float target_logits[S::kFixed];
    const std::int64_t row_tiles = tiles_of(args.rows, S::kFixed);
    // Tiles of rows that read the same items run together, so that these come from L2.
    const std::int64_t range = blockIdx.x / row_tiles;
    const std::int64_t first_row = blockIdx.x % row_tiles * S::kFixed;
    const std::int64_t item_tiles = tiles_of(args.items, S::kStream);
    const LossLogits<float> logits(args);
    const bool smooths = args.label_smoothing > 0;
    int target[2];
    RowSoFar<float> rows[2];
    for (int half = 0; half < 2; ++half) {
        const std::int64_t row = first_row + S::fixed(half);
        target[half] = row < args.rows ? static_cast<int>(args.target[row]) : -1;
        rows[half] = {kNoLogit, {0, 0}, {0, 0}};
    }
    if (S::thread() < S::kFixed) {
        target_logits[S::thread()] = 0;
    }
    const Bfloat16Rows fixed{tables.hidden, args.rows, tables.dim};
    const Bfloat16Rows items{tables.weight, args.items, tables.dim};
    TileBias<S> bias(args, shared + S::kBytes / sizeof(std::uint16_t));
    TensorTiles<S> tiles(fixed, first_row, items, shared);
    tiles.each(
        static_cast<int>(item_tiles * range / ranges),
        static_cast<int>(item_tiles * (range + 1) / ranges), bias,
        [&](int tile, int stage, TensorSums<S>& sums, const std::uint16_t*) {
            const int first = tile * S::kStream, rest = static_cast<int>(args.items) - first;
            for_each_sum<S>([&](int p, int i) {
                sums[p][i] = logits.uncapped(sums[p][i], bias.at(stage, S::column(p, i)));
            });
            if (logits.cap != 0) {
                for_each_sum<S>([&](int p, int i) { sums[p][i] = logits.capped(sums[p][i]); });
            }
            if (rest < S::kStream) {
                for_each_sum<S>([&](int p, int i) {
                    sums[p][i] = S::column(p, i) < rest ? sums[p][i] : -kInfinity;
                });
            }
            SEQREC_UNROLL
            for (int half = 0; half < 2; ++half) {
                float row[S::kColumns];
                SEQREC_UNROLL
                for (int c = 0; c < S::kColumns; ++c) {
                    row[c] = sums[c / 2][half * 2 + c % 2];
                }
                const int own = target[half] - first;
                if (own >= 0 && own < S::kStream && target[half] >= 0) {
                    SEQREC_UNROLL
                    for (int c = 0; c < S::kColumns; ++c) {
                        if (S::column(c / 2, c) == own) {
                            target_logits[S::fixed(half)] = row[c];
                        }
                    }
                }
                if (smooths) {
                    float all = 0;
                    SEQREC_UNROLL
                    for (int c = 0; c < S::kColumns; ++c) {
                        all += S::column(c / 2, c) < rest ? row[c] : 0.0F;
                    }
                    rows[half].logits.add(all);
                }
                add_logits(row, rows[half]);
            }
            __syncwarp();  // lanes may have parted
        });
    __syncthreads();
    for (int half = 0; half < 2; ++half) {
        const RowSoFar<float>& mine = rows[half];
        const auto add = [](float a, float b) { return a + b; };
        const float largest =
            join_columns(mine.largest, [](float a, float b) { return std::fmax(a, b); });
        const float sum =
            join_columns((mine.sum.sum - mine.sum.lost) * fast_exp(mine.largest - largest), add);
        const float all = join_columns(mine.logits.sum - mine.logits.lost, add);
        const std::int64_t row = first_row + S::fixed(half);
        if (lane_index() % 4 == 0 && row < args.rows) {
            parts[range * args.rows + row] = {largest, sum, all, target_logits[S::fixed(half)]};
        }
    }
}

}  // namespace
}  // namespace cuda

std::int64_t cross_entropy_tensor_workspace_cuda(std::int64_t rows, std::int64_t items,
                                                 std::int64_t dim) {
    const std::int64_t ranges = cuda::with_tensor_shape(
        dim, [&](auto shape) { return cuda::tensor_ranges<decltype(shape)>(rows, items); });
    return ranges * rows * static_cast<std::int64_t>(sizeof(cuda::RowPart<float>));
}

void cross_entropy_tensor_cuda(const CrossEntropyArgs<float>& args, const Bfloat16Tables& tables,
                               void* workspace, cudaStream_t stream) {
    auto* const parts = static_cast<cuda::RowPart<float>*>(workspace);
    const std::int64_t ranges = cuda::with_tensor_shape(tables.dim, [&](auto shape) {
        using S = decltype(shape);
        const std::int64_t n = cuda::tensor_ranges<S>(args.rows, args.items);
        cuda::launch("linear_cross_entropy", cuda::tensor_log_sum_kernel<S>,
                     {cuda::tiles_of(args.rows, S::kFixed) * n, S::kThreads,
                      S::kBytes + cuda::TileBias<S>::kBytes},
                     stream, args, tables, n, parts);
        return n;
    });
    cuda::cross_entropy_losses(args, ranges, parts, stream);
}

}  // namespace seqrec_fast
