// Dot products of a tile of rows and a tile of items, by a block of threads.
//
// Every product is one chain of fused multiply-adds in the order of the terms from 0 on, as on the
// CPU (cpu/item_scores-inl.h), so float32 scores have the same bits on both. 128 bytes of every row
// at a time pass through registers to shared memory: the next ones are on their way while a thread
// adds the products of its own few rows and items.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "cells/target_macros.h"
#include "cuda/simt.h"
#include "cuda/unroll.h"

namespace seqrec_fast {
namespace cuda {

// 16 bytes, read and written at once.
template <class T>
struct alignas(16) Piece {
    static constexpr int kValues = 16 / static_cast<int>(sizeof(T));
    T values[kValues];
};

// Threads stand in kRowThreads groups of kItemThreads; each has kRows_ rows and kItems_ items.
template <class T, int kRows_, int kItems_, int kItemThreads_>
struct TileShape {
    using Value = T;
    using Shared = T;  // what tiles hold in shared memory
    static constexpr int kThreads = 256;
    static constexpr int kItemThreads = kItemThreads_, kRowThreads = kThreads / kItemThreads_;
    static constexpr int kRowsPerThread = kRows_, kItemsPerThread = kItems_;
    static constexpr int kRows = kRowThreads * kRows_, kItems = kItemThreads * kItems_;
    static constexpr int kTerms = 8 * Piece<T>::kValues;
    // Lanes that read their own rows hit different banks.
    static constexpr int kStride = kTerms + Piece<T>::kValues;
    static constexpr std::size_t kBytes = (kRows + kItems) * kStride * sizeof(T);

    static SEQREC_FN int thread() { return static_cast<int>(threadIdx.x); }
    static SEQREC_FN int row(int r) { return thread() / kItemThreads * kRowsPerThread + r; }
    static SEQREC_FN int item(int i) { return thread() % kItemThreads + i * kItemThreads; }

    static SEQREC_FN Piece<T> to_shared(const Piece<T>& piece) { return piece; }

    // Adds the products of `terms` terms, rounded up to whole pieces, of rows and items in shared
    // memory. A chain of zeros leaves a sum as it is.
    using Sums = T[kRows_][kItems_];
    static SEQREC_FN void add_products(const T* rows, const T* items, int terms, Sums& sums) {
        using P = Piece<T>;
        SEQREC_NO_UNROLL
        for (int t = 0; t < terms; t += P::kValues) {
            P item_terms[kItemsPerThread];
            SEQREC_UNROLL
            for (int i = 0; i < kItemsPerThread; ++i) {
                item_terms[i] = *reinterpret_cast<const P*>(items + item(i) * kStride + t);
            }
            SEQREC_UNROLL
            for (int r = 0; r < kRowsPerThread; ++r) {
                const P row_terms = *reinterpret_cast<const P*>(rows + row(r) * kStride + t);
                SEQREC_UNROLL
                for (int j = 0; j < P::kValues; ++j) {
                    SEQREC_UNROLL
                    for (int i = 0; i < kItemsPerThread; ++i) {
                        sums[r][i] =
                            std::fma(row_terms.values[j], item_terms[i].values[j], sums[r][i]);
                    }
                }
            }
        }
    }
};

// Rows of `dim` values one after another.
template <class T>
struct RowsOf {
    const T* data;
    std::int64_t count, dim;

    // Whether rows can be read 16 bytes at a time.
    SEQREC_FN bool in_pieces() const {
        return dim % Piece<T>::kValues == 0 && reinterpret_cast<std::uintptr_t>(data) % 16 == 0;
    }
};

// A part of kTileRows rows on its way to shared memory.
template <class Shape, int kTileRows>
class StagedRows {
  public:
    using T = typename Shape::Value;
    using P = Piece<T>;

    // Terms from `term` on of the rows from `first` on; zeros beyond the last row and term.
    SEQREC_FN void fetch(const RowsOf<T>& rows, bool in_pieces, std::int64_t first,
                         std::int64_t term) {
        const int row = Shape::thread() / 8;
        const std::int64_t at = term + Shape::thread() % 8 * P::kValues;
        const T* from = rows.data + (first + row) * rows.dim + at;
        const std::int64_t step = kRowsAtOnce * rows.dim;
        // How many of the thread's rows exist, and how many terms from `at` on.
        const std::int64_t last = rows.count - first < kTileRows ? rows.count - first : kTileRows;
        const int left = at < rows.dim ? static_cast<int>(last) - row : 0;
        if (in_pieces) {
            SEQREC_UNROLL
            for (int i = 0; i < kPieces; ++i, from += step) {
                pieces_[i] = i * kRowsAtOnce < left ? *reinterpret_cast<const P*>(from) : P{};
            }
            return;
        }
        const int values =
            rows.dim - at < P::kValues ? static_cast<int>(rows.dim - at) : P::kValues;
        SEQREC_UNROLL
        for (int i = 0; i < kPieces; ++i, from += step) {
            SEQREC_UNROLL
            for (int j = 0; j < P::kValues; ++j) {
                pieces_[i].values[j] = i * kRowsAtOnce < left && j < values ? from[j] : T(0);
            }
        }
    }
    // To `to` (kTileRows, kStride).
    SEQREC_FN void put(typename Shape::Shared* to) const {
        SEQREC_UNROLL
        for (int i = 0; i < kPieces; ++i) {
            const int number = Shape::thread() + i * Shape::kThreads;
            if (number < kTileRows * 8) {
                const auto kept = Shape::to_shared(pieces_[i]);
                using Kept = std::remove_const_t<decltype(kept)>;
                *reinterpret_cast<Kept*>(to + number / 8 * Shape::kStride +
                                         number % 8 * P::kValues) = kept;
            }
        }
    }

  private:
    static constexpr int kRowsAtOnce = Shape::kThreads / 8;
    static constexpr int kPieces = (kTileRows + kRowsAtOnce - 1) / kRowsAtOnce;
    P pieces_[kPieces];
};

template <class Shape>
using TileSums = typename Shape::Sums;

template <class Shape>
SEQREC_FN void clear_sums(TileSums<Shape>& sums) {
    SEQREC_UNROLL
    for (int r = 0; r < Shape::kRowsPerThread; ++r) {
        SEQREC_UNROLL
        for (int i = 0; i < Shape::kItemsPerThread; ++i) {
            sums[r][i] = 0;
        }
    }
}

// The products of a tile of rows with one tile of items after another. `shared` (kBytes), 16-byte
// aligned, is free for other use in what follows a tile's sums.
template <class Shape>
class TileProducts {
  public:
    using T = typename Shape::Value;

    SEQREC_FN TileProducts(const RowsOf<T>& rows, std::int64_t first_row, const RowsOf<T>& items,
                           typename Shape::Shared* shared)
        : rows_(rows),
          items_(items),
          first_row_(first_row),
          item_part_(shared),
          row_part_(shared + Shape::kItems * Shape::kStride),
          rows_in_pieces_(rows.in_pieces()),
          items_in_pieces_(items.in_pieces()) {}

    // For each tile of items [begin, end), in which item 0 of the first is begin * kItems:
    //     before()             while shared memory is filled
    //     use(tile, sums)      then all threads meet at a barrier
    //     after()              may use shared memory
    template <class Before, class Use, class After>
    SEQREC_FN void each(std::int64_t begin_tile, std::int64_t end_tile, const Before& before,
                        const Use& use, const After& after) {
        // Fewer than 2^31 rows and terms: half the registers.
        const int begin = static_cast<int>(begin_tile), end = static_cast<int>(end_tile);
        const int dim = static_cast<int>(rows_.dim);
        TileSums<Shape> sums;
        clear_sums<Shape>(sums);
        if (begin < end) {
            fetch(begin, 0);
        }
        for (int tile = begin, term = 0; tile < end;) {
            __syncthreads();
            staged_items_.put(item_part_);
            staged_rows_.put(row_part_);
            const bool last = term + Shape::kTerms >= dim;
            if (last) {
                before();
            }
            __syncthreads();
            const int left = dim - term;
            const int next_tile = last ? tile + 1 : tile;
            const int next_term = last ? 0 : term + Shape::kTerms;
            if (next_tile < end) {
                fetch(next_tile, next_term);
            }
            Shape::add_products(row_part_, item_part_, left < Shape::kTerms ? left : Shape::kTerms,
                                sums);
            if (last) {
                use(tile, sums);
                clear_sums<Shape>(sums);
                __syncthreads();
                after();
            }
            tile = next_tile;
            term = next_term;
        }
    }

  private:
    SEQREC_FN void fetch(int tile, int term) {
        staged_items_.fetch(items_, items_in_pieces_, std::int64_t{tile} * Shape::kItems, term);
        staged_rows_.fetch(rows_, rows_in_pieces_, first_row_, term);
    }

    const RowsOf<T>& rows_;
    const RowsOf<T>& items_;
    std::int64_t first_row_;
    typename Shape::Shared *item_part_, *row_part_;
    bool rows_in_pieces_, items_in_pieces_;
    StagedRows<Shape, Shape::kItems> staged_items_;
    StagedRows<Shape, Shape::kRows> staged_rows_;
};

}  // namespace cuda
}  // namespace seqrec_fast
