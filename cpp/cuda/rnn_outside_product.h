// The product of a step where the caller computes it, see OneStep: with the interface of
// rnn_product.h, but the sums are there already, and states lie in the GPU's memory between
// kernels.
#pragma once

#include <cstdint>

#include "cuda/half.h"
#include "cuda/rnn_tile.h"

namespace seqrec_fast {
namespace cuda {

// A block has a row, a thread some of its units. The left side of the next product is written as O.
template <class S, class O>
class OutsideProduct {
  public:
    using T = typename LoopTypes<S>::Sum;
    using Math = DeviceMath<T>;
    static constexpr WeightPlace kPlace = WeightPlace::outside;
    static constexpr int kRows = 1, kElements = 1;
    static constexpr bool kReadsAhead = false;
    static constexpr unsigned kMostThreads = kRnnThreads;
    using Rows = RowValues<T, 1>;

    struct Operand {
        O* values;
        int hidden;

        SEQREC_FN void set(int gate, int unit, int /*row*/, T value) const {
            values[gate * hidden + unit] = narrow<O>(value);
        }
    };

    SEQREC_FN OutsideProduct(const OneStep<S>& step, const DeviceLayout& layout, std::int64_t tile,
                             int hidden)
        : step_(step), hidden_(hidden) {
        const std::int64_t expert = expert_of(layout, tile), own = tile / layout.experts;
        row_ = expert * (layout.batch / layout.experts) + own;
        sum_row_ = own < step.sum_rows ? expert * step.sum_rows + own : -1;
    }
    SEQREC_FN Operand operand(int gates, SharedMemory& /*shared*/) const {
        return {left() + row_ * gates * hidden_, hidden_};
    }
    SEQREC_FN Rows* states(T* all) const { return reinterpret_cast<Rows*>(all + row_ * hidden_); }

    static std::size_t weight_bytes(std::int64_t, std::int64_t, std::int64_t) { return 0; }
    static std::size_t operand_bytes(std::int64_t, std::int64_t) { return 0; }
    static unsigned threads(std::int64_t hidden, std::int64_t /*blocks*/) {
        return rnn_threads(hidden, 1);
    }

    SEQREC_FN int first_turn() const { return static_cast<int>(threadIdx.x); }
    template <class Visit>
    SEQREC_FN void for_each_turn(const Visit& visit) const {
        for (int unit = first_turn(); unit < hidden_; unit += static_cast<int>(blockDim.x)) {
            visit(unit);
        }
    }
    SEQREC_FN int unit(int turn, int /*element*/) const { return turn; }
    SEQREC_FN int row(int /*element*/) const { return 0; }
    SEQREC_FN bool has(int unit) const { return unit < hidden_; }

    template <int kCount>
    SEQREC_FN void add_gates(const Operand& /*left*/, int /*first_gate*/, int turn,
                             T (&sum)[kCount][1]) const {
        if (sum_row_ >= 0) {
            for (int g = 0; g < kCount; ++g) {
                sum[g][0] += step_.sums[(sum_row_ * kCount + g) * hidden_ + turn];
            }
        }
    }
    template <int kCount>
    SEQREC_FN void add_transposed(const Operand& /*left*/, int /*first_gate*/, int turn,
                                  T (&sum)[1]) const {
        if (sum_row_ >= 0) {
            sum[0] += step_.sums[sum_row_ * hidden_ + turn];
        }
    }

  private:
    SEQREC_FN O* left() const {
        if constexpr (std::is_same_v<O, S> && !kIsHalf<S>) {
            return step_.left;
        } else {
            return step_.left_packed;
        }
    }

    const OneStep<S>& step_;
    int hidden_;
    std::int64_t row_, sum_row_;  // of the tile, in arrays of (B, ...) and in `sums`; -1: none
};

// The product of a tile, from the arguments of a loop.
template <class Product, class Args>
SEQREC_FN Product tile_product(const Args& args, std::int64_t tile, int gates,
                               SharedMemory& shared) {
    const int hidden = static_cast<int>(args.hidden);
    if constexpr (Product::kPlace == WeightPlace::outside) {
        return Product(args.step, args.layout, tile, hidden);
    } else {
        return Product(weights_of(args.weights, expert_of(args.layout, tile)), hidden, gates,
                       shared);
    }
}
// What a loop keeps of every unit and row from step to step: `kept` where kernels end with a step,
// else shared memory.
template <class Product>
SEQREC_FN RowValues<typename Product::T, Product::kRows>* tile_states(const Product& product,
                                                                      int hidden,
                                                                      typename Product::T* kept,
                                                                      SharedMemory& shared) {
    if constexpr (Product::kPlace == WeightPlace::outside) {
        return product.states(kept);
    } else {
        return shared.take<RowValues<typename Product::T, Product::kRows>>(hidden);
    }
}
template <class Product>
std::size_t state_bytes(std::int64_t hidden) {
    return Product::kPlace == WeightPlace::outside
               ? 0
               : SharedMemory::bytes<RowValues<typename Product::T, Product::kRows>>(hidden);
}

}  // namespace cuda
}  // namespace seqrec_fast
