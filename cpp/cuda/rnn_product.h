// The product of a step, of the states or gradients of a tile's rows with weight_hh, by
// multiply-adds in T. rnn_tensor_product.h has the same interface: a thread has some elements (a
// unit, a row) of the results, the same for all gates, and works on them in turns.
#pragma once

#include <cstdint>

#include "cuda/rnn_tile.h"

namespace seqrec_fast {
namespace cuda {

// A thread has a unit, for all rows. Sums are in the order of k, whatever the number of rows.
template <class Value, int kTileRows, WeightPlace kWeightPlace>
class FmaProduct {
  public:
    using T = Value;
    using Math = DeviceMath<T>;
    static constexpr WeightPlace kPlace = kWeightPlace;
    static constexpr int kRows = kTileRows;
    static constexpr int kElements = kTileRows;
    static constexpr bool kReadsAhead = false;  // of the input gates: its rows fill the registers
    static constexpr unsigned kMostThreads = kRnnThreads;
    using Rows = RowValues<T, kRows>;

    // The left side: a vector of H per gate.
    struct Operand {
        Rows* values;
        int hidden;

        SEQREC_FN void set(int gate, int unit, int row, T value) const {
            put_in_all<kPlace>(values + gate * hidden + unit,
                               [&](Rows* rows) { rows->of[row] = value; });
        }
    };

    // `weights.full`: (H, gates * H) for add_gates, (gates * H, H) for add_transposed.
    SEQREC_FN FmaProduct(const RecurrentWeights<T>& weights, int hidden, int gates,
                         SharedMemory& shared)
        : weights_(weights.full),
          hidden_(hidden),
          gates_(gates),
          own_(own_turns<kPlace>(hidden)),
          width_(hidden) {
        if (kPlace != WeightPlace::stream) {
            // Columns of its own units, of all rows.
            width_ = own_.end - own_.begin;
            const int rows = gates * hidden;
            T* const kept = shared.take<T>(std::int64_t{rows} * own_.most);
            for (int i = static_cast<int>(threadIdx.x); i < rows * width_;
                 i += static_cast<int>(blockDim.x)) {
                kept[i] = weights_[i / width_ * hidden + own_.begin + i % width_];
            }
            weights_ = kept;
        }
    }
    SEQREC_FN Operand operand(int gates, SharedMemory& shared) const {
        return {shared.take<Rows>(std::int64_t{gates} * hidden_), hidden_};
    }
    static std::size_t weight_bytes(std::int64_t hidden, std::int64_t gates, std::int64_t blocks) {
        return kPlace == WeightPlace::stream
                   ? 0
                   : SharedMemory::bytes<T>(hidden * gates * share(hidden, blocks));
    }
    static std::size_t operand_bytes(std::int64_t hidden, std::int64_t gates) {
        return SharedMemory::bytes<Rows>(hidden * gates);
    }
    static unsigned threads(std::int64_t hidden, std::int64_t blocks) {
        return rnn_threads(share(hidden, blocks), 1);
    }

    SEQREC_FN int first_turn() const { return own_.begin + static_cast<int>(threadIdx.x); }
    template <class Visit>
    SEQREC_FN void for_each_turn(const Visit& visit) const {
        for (int unit = first_turn(); unit < hidden_; unit += static_cast<int>(blockDim.x)) {
            visit(unit);
        }
    }
    SEQREC_FN int unit(int turn, int /*element*/) const { return turn; }
    SEQREC_FN int row(int element) const { return element; }
    SEQREC_FN bool has(int unit) const { return unit < own_.end; }

    // sum[g] += what gate first_gate + g has of `left`.
    template <int kCount>
    SEQREC_FN void add_gates(const Operand& left, int first_gate, int turn,
                             T (&sum)[kCount][kElements]) const {
        const T* const weights = weights_ + first_gate * width_ + turn - first_column();
        SEQREC_UNROLL_BY(4)
        for (int k = 0; k < hidden_; ++k) {
            const Rows rows = left.values[k];
            for (int g = 0; g < kCount; ++g) {
                multiply_add(rows, weights[(k * gates_ + g) * width_], sum[g]);
            }
        }
    }
    // sum += the product of kCount gates' vectors, from first_gate on, with their rows.
    template <int kCount>
    SEQREC_FN void add_transposed(const Operand& left, int first_gate, int turn,
                                  T (&sum)[kElements]) const {
        const T* const weights = weights_ + turn - first_column();
        SEQREC_UNROLL_BY(8)
        for (int k = first_gate * hidden_; k < (first_gate + kCount) * hidden_; ++k) {
            multiply_add(left.values[k], weights[k * width_], sum);
        }
    }

  private:
    static std::int64_t share(std::int64_t hidden, std::int64_t blocks) {
        return (hidden + blocks - 1) / blocks;
    }
    SEQREC_FN int first_column() const { return kPlace == WeightPlace::stream ? 0 : own_.begin; }
    SEQREC_FN static void multiply_add(const Rows& rows, T weight, T (&sum)[kElements]) {
        for (int r = 0; r < kRows; ++r) {
            sum[r] = DeviceMath<T>::mul_add(rows.of[r], weight, sum[r]);
        }
    }

    const T* weights_;
    int hidden_, gates_;
    OwnTurns own_;
    int width_;  // of a row of the weights
};

}  // namespace cuda
}  // namespace seqrec_fast
