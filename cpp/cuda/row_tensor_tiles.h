// Products of tiles of float32 rows and items on tensor cores, as row_tiles.h takes them: values
// are rounded to bfloat16 on their way to shared memory, sums are float32.
#pragma once

#include <cstdint>

#include "cuda/row_tiles.h"
#include "cuda/tensor_core.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

// 8 warps, 4 beside 2, each with 32 rows and 32 items: rows are the left matrix.
struct TensorTileShape {
    using Value = float;
    using Shared = std::uint16_t;
    static constexpr int kThreads = 256, kRows = 128, kItems = 64, kTerms = 32;
    static constexpr int kRowsPerThread = 4, kItemsPerThread = 8;
    // Rows that lanes read at once start in different banks.
    static constexpr int kStride = kTerms + 8;
    static constexpr std::size_t kBytes = (kRows + kItems) * kStride * sizeof(Shared);
    using Sums = float[kRowsPerThread][kItemsPerThread];

    static SEQREC_FN int thread() { return static_cast<int>(threadIdx.x); }
    static SEQREC_FN int first_row() { return thread() / kWarp / 2 * 32; }
    static SEQREC_FN int first_item() { return thread() / kWarp % 2 * 32; }
    // As tensor_core.h has the elements of a lane.
    static SEQREC_FN int row(int r) {
        return first_row() + r / 2 * 16 + r % 2 * 8 + lane_index() / 4;
    }
    static SEQREC_FN int item(int i) {
        return first_item() + i / 2 * 8 + lane_index() % 4 * 2 + i % 2;
    }

    struct alignas(8) Rounded {
        Shared values[4];
    };
    static SEQREC_FN Rounded to_shared(const Piece<float>& piece) {
        return {round_to_bfloat16(piece.values[0]), round_to_bfloat16(piece.values[1]),
                round_to_bfloat16(piece.values[2]), round_to_bfloat16(piece.values[3])};
    }

    static SEQREC_FN void add_products(const Shared* rows, const Shared* items, int terms,
                                       Sums& sums) {
        const int q = lane_index() / 4, t = lane_index() % 4;
        SEQREC_NO_UNROLL
        for (int term = 0; term < terms; term += 16) {
            FragmentB right[4];
            SEQREC_UNROLL
            for (int i = 0; i < 4; ++i) {
                const Shared* const at = items + (first_item() + i * 8 + q) * kStride + term;
                right[i] = {pair(at + 2 * t), pair(at + 2 * t + 8)};
            }
            SEQREC_UNROLL
            for (int r = 0; r < kRowsPerThread; r += 2) {
                const Shared* const at = rows + (first_row() + r * 8 + q) * kStride + term + 2 * t;
                const FragmentA left{pair(at), pair(at + 8 * kStride), pair(at + 8),
                                     pair(at + 8 * kStride + 8)};
                SEQREC_UNROLL
                for (int i = 0; i < kItemsPerThread; i += 2) {
                    float c[4] = {sums[r][i], sums[r][i + 1], sums[r + 1][i], sums[r + 1][i + 1]};
                    multiply_bfloat16(left, right[i / 2], c);
                    sums[r][i] = c[0];
                    sums[r][i + 1] = c[1];
                    sums[r + 1][i] = c[2];
                    sums[r + 1][i + 1] = c[3];
                }
            }
        }
    }

  private:
    static SEQREC_FN std::uint32_t pair(const Shared* p) {
        return *reinterpret_cast<const std::uint32_t*>(p);
    }
};

}  // namespace cuda
}  // namespace seqrec_fast
