// Tiles of the cross-entropy on tensor cores: a block keeps some vectors of one table, 16 to a
// warp, while those of the other table pass through shared memory, a tile at a time.
//
// Products of a tile lie in registers as mma.sync leaves them; rounded, they are at once the left
// side of the product that makes gradients. Tiles are copied asynchronously into one of two stages
// while the other is in use: one barrier a tile. Rows in shared memory are 16 bytes longer than
// they need be, so that ldmatrix reads 8 of them from different banks.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "cuda/async_copy.h"
#include "cuda/cross_entropy_tiles.h"
#include "cuda/device.h"
#include "cuda/matrix_fragments.h"
#include "cuda/unroll.h"

namespace seqrec_fast {
namespace cuda {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// kDim: a multiple of 16 from which on vectors are filled up with zeros.
template <int kDim_>
struct TensorShape {
    static constexpr int kDim = kDim_;
    // With twice as many, the widest vectors would not fit 99 KiB of shared memory.
    static constexpr int kThreads = kDim > 128 ? 128 : 256;
    static constexpr int kFixed = kThreads / kWarp * 16;
    static constexpr int kStream = kDim > 128 ? 32 : 64;
    static constexpr int kStride = kDim + 8;
    static constexpr int kSteps = kDim / 16;
    static constexpr int kParts = kStream / 8;   // 8 columns each
    static constexpr int kColumns = 2 * kParts;  // of a thread
    // Whether a warp's 16 vectors stay in registers; else they are loaded for each tile.
    static constexpr bool kInRegisters = kDim <= 128;
    // Blocks that a multiprocessor should have room for: registers are what limits them.
    static constexpr int kBlocks = kDim <= 64 || kDim > 128 ? 2 : 1;
    static constexpr std::size_t kFixedValues = kFixed * kStride, kStageValues = kStream * kStride;
    static constexpr std::size_t kBytes = (kFixedValues + 2 * kStageValues) * sizeof(std::uint16_t);

    // The thread's products: of two of the block's vectors, `half` 0 and 1, and of two columns of
    // each part of a tile; entry i is of half i / 2 and of the column i % 2.
    static SEQREC_FN int thread() { return static_cast<int>(threadIdx.x); }
    static SEQREC_FN int fixed(int half) {
        return thread() / kWarp * 16 + lane_index() / 4 + half * 8;
    }
    static SEQREC_FN int column(int part, int i) { return part * 8 + lane_index() % 4 * 2 + i % 2; }
};

template <class Shape>
using TensorSums = float[Shape::kParts][4];

// Calls visit(part, i) for every sum of the thread.
template <class Shape, class Visit>
SEQREC_FN void for_each_sum(const Visit& visit) {
    SEQREC_UNROLL
    for (int part = 0; part < Shape::kParts; ++part) {
        SEQREC_UNROLL
        for (int i = 0; i < 4; ++i) {
            visit(part, i);
        }
    }
}

// Vectors of bfloat16, 16-byte aligned, `dim` a multiple of 8.
struct Bfloat16Rows {
    const std::uint16_t* data;
    std::int64_t count, dim;
};

// Begins to copy kRows vectors from `first` on; zeros beyond the last and beyond `dim`.
template <class Shape, int kRows>
SEQREC_FN void copy_vectors(const Bfloat16Rows& rows, std::int64_t first, std::uint16_t* to) {
    constexpr int kPieces = Shape::kDim / 8;
    static_assert(kRows * kPieces % Shape::kThreads == 0);
    const int left = rows.count - first < kRows ? static_cast<int>(rows.count - first) : kRows;
    const int dim = static_cast<int>(rows.dim);
    const std::uint16_t* const from = rows.data + first * rows.dim;
    SEQREC_UNROLL
    for (int i = 0; i < kRows * kPieces / Shape::kThreads; ++i) {
        const int number = i * Shape::kThreads + Shape::thread();
        const int row = number / kPieces, at = number % kPieces * 8;
        const bool exists = row < left && at < dim;
        copy_16_bytes_async(to + row * Shape::kStride + at, from + (exists ? row * dim + at : 0),
                            exists);
    }
}

// A block's vectors and the tiles that pass by them. `shared`: Shape::kBytes.
template <class Shape>
class TensorTiles {
  public:
    SEQREC_FN TensorTiles(const Bfloat16Rows& fixed, std::int64_t first_fixed,
                          const Bfloat16Rows& stream, std::uint16_t* shared)
        : stream_(stream),
          own_(matrix_row(shared + Shape::thread() / kWarp * 16 * Shape::kStride, Shape::kStride)),
          stages_(shared + Shape::kFixedValues) {
        copy_vectors<Shape, Shape::kFixed>(fixed, first_fixed, shared);
    }

    // For each tile [begin, end), with `about` what a tile's vectors have beside them:
    //     about.fetch(tile)                to registers, while an earlier tile is in use
    //     about.put(stage)                 to shared memory
    //     use(tile, stage, sums, vectors)  sums of products; `vectors` for add_product
    template <class About, class Use>
    SEQREC_FN void each(int begin, int end, About& about, const Use& use) {
        FragmentA left[Shape::kInRegisters ? Shape::kSteps : 1];
        if (begin < end) {
            copy_vectors<Shape, Shape::kStream>(stream_, std::int64_t{begin} * Shape::kStream,
                                                stages_);
            about.fetch(begin);
            about.put(0);
        }
        if constexpr (Shape::kInRegisters) {
            wait_for_async_copies();
            __syncthreads();
            SEQREC_UNROLL
            for (int k = 0; k < Shape::kSteps; ++k) {
                left[k] = load_matrices<false>(own_ + k * 16);
            }
        }
        SEQREC_NO_UNROLL
        for (int tile = begin; tile < end; ++tile) {
            const int stage = (tile - begin) % 2;
            // Then all threads have the tile, and none is at work on the one before it.
            wait_for_async_copies();
            __syncthreads();
            if (tile + 1 < end) {
                copy_vectors<Shape, Shape::kStream>(stream_,
                                                    std::int64_t{tile + 1} * Shape::kStream,
                                                    stages_ + (1 - stage) * Shape::kStageValues);
                about.fetch(tile + 1);
            }
            const std::uint16_t* const vectors =
                matrix_row(stages_ + stage * Shape::kStageValues, Shape::kStride);
            TensorSums<Shape> sums = {};
            SEQREC_UNROLL
            for (int k = 0; k < Shape::kSteps; ++k) {
                const FragmentA a = Shape::kInRegisters ? left[Shape::kInRegisters ? k : 0]
                                                        : load_matrices<false>(own_ + k * 16);
                SEQREC_UNROLL
                for (int p = 0; p < Shape::kParts; p += 2) {
                    multiply_tile<false>(a, vectors + p * 8 * Shape::kStride + k * 16, sums[p],
                                         sums[p + 1]);
                }
            }
            use(tile, stage, sums, vectors);
            if (tile + 1 < end) {
                about.put(1 - stage);
            }
        }
    }

    // Adds the products of `factors`, rounded to bfloat16, with a tile's vectors.
    static SEQREC_FN void add_product(const TensorSums<Shape>& factors,
                                      const std::uint16_t* vectors,
                                      float (&to)[Shape::kDim / 8][4]) {
        SEQREC_UNROLL
        for (int p = 0; p < Shape::kParts; p += 2) {
            const FragmentA a = as_left(factors[p], factors[p + 1]);
            SEQREC_UNROLL
            for (int c = 0; c < Shape::kDim / 8; c += 2) {
                multiply_tile<true>(a, vectors + p * 8 * Shape::kStride + c * 8, to[c], to[c + 1]);
            }
        }
    }

  private:
    const Bfloat16Rows& stream_;
    const std::uint16_t* own_;
    std::uint16_t* stages_;
};

// Biases of the items of a tile; -inf beyond the last.
template <class Shape>
class TileBias {
  public:
    static constexpr std::size_t kBytes = 2 * Shape::kStream * sizeof(float);

    SEQREC_FN TileBias(const CrossEntropyArgs<float>& args, void* shared)
        : bias_(args.bias), items_(args.items), shared_(static_cast<float*>(shared)) {}

    SEQREC_FN void fetch(int tile) {
        const std::int64_t item = std::int64_t{tile} * Shape::kStream + Shape::thread();
        if (Shape::thread() < Shape::kStream) {
            next_ = item >= items_ ? -kInfinity : bias_ == nullptr ? 0.0F : bias_[item];
        }
    }
    SEQREC_FN void put(int stage) const {
        if (Shape::thread() < Shape::kStream) {
            shared_[stage * Shape::kStream + Shape::thread()] = next_;
        }
    }
    SEQREC_FN float at(int stage, int column) const {
        return shared_[stage * Shape::kStream + column];
    }

  private:
    const float* bias_;
    std::int64_t items_;
    float* shared_;
    float next_ = 0;
};

// exp(x) within a few units of the last place of the result for small x; 0 for -inf.
SEQREC_FN float fast_exp(float x) {
    constexpr float kLog2E = 1.44269504F;
#if defined(__CUDACC__)
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * kLog2E));
    return result;
#else
    return std::exp2(x * kLog2E);
#endif
}

// Sum, or the largest, of the four threads that have the same vectors of a block.
template <class Join>
SEQREC_FN float join_columns(float value, const Join& join) {
    value = join(value, __shfl_xor_sync(kAllLanes, value, 1));
    return join(value, __shfl_xor_sync(kAllLanes, value, 2));
}

constexpr std::int64_t tiles_of(std::int64_t count, std::int64_t size) {
    return (count + size - 1) / size;
}

// Into how many ranges the tiles that pass are split, so that the device is filled: four blocks
// follow each other where one runs, so the last ones leave little of it idle.
template <class Shape>
std::int64_t tensor_ranges(std::int64_t fixed, std::int64_t stream) {
    const std::int64_t wanted = 4 * Shape::kBlocks * static_cast<std::int64_t>(multiprocessors());
    const std::int64_t fixed_tiles = std::max<std::int64_t>(1, tiles_of(fixed, Shape::kFixed));
    constexpr std::int64_t kLeastTiles = 4;
    const std::int64_t most = tiles_of(stream, Shape::kStream) / kLeastTiles;
    return std::clamp<std::int64_t>(wanted / fixed_tiles, 1, std::max<std::int64_t>(1, most));
}

// Calls visit(TensorShape<kDim>()) for the least kDim that has room for `dim`.
template <class Visit>
auto with_tensor_shape(std::int64_t dim, const Visit& visit) {
    return dim <= 32    ? visit(TensorShape<32>())
           : dim <= 64  ? visit(TensorShape<64>())
           : dim <= 128 ? visit(TensorShape<128>())
                        : visit(TensorShape<256>());
}

}  // namespace cuda
}  // namespace seqrec_fast
