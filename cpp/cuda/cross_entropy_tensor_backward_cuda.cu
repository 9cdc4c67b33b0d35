// Gradients of the cross-entropy on a GPU's tensor cores, from logits that are computed anew.
//
// Those of rows and of items are one kernel with the tables' parts exchanged: a block keeps
// vectors and sums the other table's vectors, weighted by the gradients of scores, which are
// rounded to bfloat16 for that. What blocks have from different ranges is added by a second kernel,
// in their order. Bound: an exponential and some eight instructions beside 2 `dim` products of a
// logit.
#include "cuda/cross_entropy_sides.h"
#include "cuda/cross_entropy_tensor.h"
#include "cuda/launch.h"
#include "cuda/row_vectors.h"

namespace seqrec_fast {
namespace cuda {
namespace {

// Products become gradients with respect to scale * hidden . weight + bias, but for the side's last
// factor.
template <class Shape, bool kCapped, bool kTargets, class Side>
SEQREC_FN void score_grads(const LossLogits<float>& logits, const Side& side, int stage,
                           float evenly, float own, TensorSums<Shape>& sums) {
    for_each_sum<Shape>([&](int p, int i) {
        float logit = logits.uncapped(sums[p][i], side.bias(stage, p, i));
        if (kCapped) {
            logit = logits.capped(logit);
        }
        float grad = fast_exp(logit - side.log_sum(stage, p, i)) - evenly;
        if (kTargets) {
            grad -= side.is_target(stage, p, i) ? own : 0.0F;
        }
        grad *= side.factor(stage, p, i);
        sums[p][i] = kCapped ? grad * logits.cap_gradient(logit) : grad;
    });
}

// Two neighbouring values; `both`: they may be written at once.
SEQREC_FN void store_pair(const GradientRows& to, std::int64_t at, bool both, bool second,
                          float low, float high) {
    if (to.full != nullptr) {
        if (both) {
            RowVector<float, 2>{{low, high}}.store(to.full + at);
            return;
        }
        to.full[at] = low;
        if (second) {
            to.full[at + 1] = high;
        }
        return;
    }
    const std::uint16_t pair[2] = {round_to_bfloat16(low), round_to_bfloat16(high)};
    if (both) {
        RowVector<std::uint16_t, 2>{{pair[0], pair[1]}}.store(to.rounded + at);
        return;
    }
    to.rounded[at] = pair[0];
    if (second) {
        to.rounded[at + 1] = pair[1];
    }
}

// `to` (ranges, vectors of the block's table, args.dim), `dbias` (ranges, items): optional.
template <class Shape, template <class> class SideOf>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks)
    tensor_grad_kernel(CrossEntropyArgs<float> args, Bfloat16Rows fixed, Bfloat16Rows stream,
                       std::int64_t ranges, GradientRows to, float* dbias) {
    using S = Shape;
    using Side = SideOf<S>;
    SEQREC_DYNAMIC_SHARED(std::uint16_t, shared);
    const std::int64_t fixed_tiles = tiles_of(fixed.count, S::kFixed);
    const std::int64_t stream_tiles = tiles_of(stream.count, S::kStream);
    // Blocks that read the same vectors run together, so that these come from L2.
    const std::int64_t range = blockIdx.x / fixed_tiles;
    const std::int64_t first = blockIdx.x % fixed_tiles * S::kFixed;
    const LossLogits<float> logits(args);
    const auto evenly = static_cast<float>(args.label_smoothing / static_cast<double>(args.items));
    const auto own = static_cast<float>(1 - args.label_smoothing);
    Side side(args, first, shared + S::kBytes / sizeof(std::uint16_t));
    TensorTiles<S> tiles(fixed, first, stream, shared);
    float grads[S::kDim / 8][4] = {}, bias_grads[2] = {};
    tiles.each(static_cast<int>(stream_tiles * range / ranges),
               static_cast<int>(stream_tiles * (range + 1) / ranges), side,
               [&](int tile, int stage, TensorSums<S>& sums, const std::uint16_t* vectors) {
                   const bool has_targets = side.begin_tile(tile, stage);
                   if (logits.cap != 0) {
                       score_grads<S, true, true>(logits, side, stage, evenly, own, sums);
                   } else if (has_targets) {
                       score_grads<S, false, true>(logits, side, stage, evenly, own, sums);
                   } else {
                       score_grads<S, false, false>(logits, side, stage, evenly, own, sums);
                   }
                   if (Side::kSumsBias) {
                       float sum[2] = {};
                       for_each_sum<S>([&](int p, int i) { sum[i / 2] += sums[p][i]; });
                       bias_grads[0] += sum[0];
                       bias_grads[1] += sum[1];
                   }
                   __syncwarp();  // lanes may have parted
                   tiles.add_product(sums, vectors, grads);
               });
    const auto scale = static_cast<float>(args.scale);
    const bool both = args.dim % 2 == 0;
    SEQREC_UNROLL
    for (int half = 0; half < 2; ++half) {
        const std::int64_t vector = first + S::fixed(half);
        const bool exists = vector < fixed.count;
        const std::int64_t at = range * fixed.count + vector;
        if (Side::kSumsBias) {
            const float sum =
                join_columns(bias_grads[half], [](float a, float b) { return a + b; });
            if (dbias != nullptr && exists && lane_index() % 4 == 0) {
                dbias[at] = sum;
            }
        }
        if (!exists || (to.full == nullptr && to.rounded == nullptr)) {
            continue;
        }
        const float factor = scale * side.last_factor(half);
        SEQREC_UNROLL
        for (int c = 0; c < S::kDim / 8; ++c) {
            const int column = S::column(c, 0);
            if (column < args.dim) {
                store_pair(to, at * args.dim + column, both, column + 1 < args.dim,
                           factor * grads[c][half * 2], factor * grads[c][half * 2 + 1]);
            }
        }
    }
}

constexpr unsigned kSumThreads = 256;

// `to` (n): sums of `parts` (ranges, n).
__global__ void __launch_bounds__(kSumThreads)
    add_ranges_kernel(const float* parts, std::int64_t ranges, std::int64_t n, GradientRows to) {
    const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
    if (i >= n) {
        return;
    }
    float sum = parts[i];
    for (std::int64_t range = 1; range < ranges; ++range) {
        sum += parts[range * n + i];
    }
    if (to.full != nullptr) {
        to.full[i] = sum;
    } else {
        to.rounded[i] = round_to_bfloat16(sum);
    }
}

// Of one side: gradients of `fixed`, by way of `parts` if there are several ranges.
template <class Shape, template <class> class SideOf>
void run_side(const CrossEntropyArgs<float>& args, const Bfloat16Rows& fixed,
              const Bfloat16Rows& stream, const GradientRows& to, float* dbias, float* parts,
              cudaStream_t stream_of_work) {
    const std::int64_t ranges = tensor_ranges<Shape>(fixed.count, stream.count);
    const std::int64_t n = fixed.count * args.dim;
    const bool split = ranges > 1;
    float* const bias_parts = to.present() ? parts + ranges * n : parts;
    launch("linear_cross_entropy", tensor_grad_kernel<Shape, SideOf>,
           {tiles_of(fixed.count, Shape::kFixed) * ranges, Shape::kThreads,
            Shape::kBytes + SideOf<Shape>::kBytes},
           stream_of_work, args, fixed, stream, ranges,
           split && to.present() ? GradientRows{parts, nullptr} : to,
           split && dbias != nullptr ? bias_parts : dbias);
    const auto add = [&](const float* from, std::int64_t count, const GradientRows& sums) {
        launch("linear_cross_entropy", add_ranges_kernel,
               {tiles_of(count, kSumThreads), kSumThreads}, stream_of_work, from, ranges, count,
               sums);
    };
    if (split && to.present()) {
        add(parts, n, to);
    }
    if (split && dbias != nullptr) {
        add(bias_parts, fixed.count, {dbias, nullptr});
    }
}

}  // namespace
}  // namespace cuda

std::int64_t cross_entropy_tensor_grad_workspace_cuda(std::int64_t rows, std::int64_t items,
                                                      std::int64_t dim) {
    return cuda::with_tensor_shape(dim, [&](auto shape) {
        using S = decltype(shape);
        const auto of = [&](std::int64_t fixed, std::int64_t stream) {
            const std::int64_t ranges = cuda::tensor_ranges<S>(fixed, stream);
            return ranges > 1 ? ranges * fixed * (dim + 1) : 0;
        };
        return std::max(of(rows, items), of(items, rows)) *
               static_cast<std::int64_t>(sizeof(float));
    });
}

void cross_entropy_tensor_grad_cuda(const CrossEntropyArgs<float>& args,
                                    const Bfloat16Tables& tables, const GradientRows& dhidden,
                                    const GradientRows& dweight, void* workspace,
                                    cudaStream_t stream) {
    const cuda::Bfloat16Rows rows{tables.hidden, args.rows, tables.dim};
    const cuda::Bfloat16Rows items{tables.weight, args.items, tables.dim};
    auto* const parts = static_cast<float*>(workspace);
    cuda::with_tensor_shape(tables.dim, [&](auto shape) {
        using S = decltype(shape);
        if (dhidden.present()) {
            cuda::run_side<S, cuda::RowSide>(args, rows, items, dhidden, nullptr, parts, stream);
        }
        if (dweight.present() || args.dbias != nullptr) {
            cuda::run_side<S, cuda::ItemSide>(args, items, rows, dweight, args.dbias, parts,
                                              stream);
        }
    });
}

}  // namespace seqrec_fast
