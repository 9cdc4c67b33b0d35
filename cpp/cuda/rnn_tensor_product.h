// The product of a step on tensor cores, see rnn_product.h: weights are the left matrix, so that
// tiles of 16 are filled by units; 8 sessions are the columns. Weights and what they are multiplied
// by are bfloat16 or float16, sums and states float32.
#pragma once

#include <cstdint>

#include "cuda/half.h"
#include "cuda/rnn_tile.h"
#include "cuda/tensor_core.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

// A turn is 16 units of a warp. A lane has two units for two rows, of all gates: what the gates'
// formulas need is in one thread.
//
// Weights come packed as lanes load them, 16 bytes at once: (units / 16, gates, pairs, 2, 32 lanes,
// 8), where a pair is 32 terms of a sum. The terms of a pair are in such an order that a lane's
// share of the right side, too, is 16 bytes in a row: lane t of four has 8 t to 8 t + 7. Bound by
// the reading of weights, 512 bytes for a product of 16 x 8 x 16.
template <class Half, WeightPlace kWeightPlace>
class TensorProduct {
  public:
    using T = float;
    using Math = FastMath;
    static constexpr WeightPlace kPlace = kWeightPlace;
    static constexpr int kRows = 8;
    static constexpr int kElements = 4;
    static constexpr int kUnits = 16;
    static constexpr int kPair = 32;
    static constexpr bool kReadsAhead = true;
    static constexpr unsigned kMostThreads = kRnnThreads;

    struct Operand {
        Half* values;
        int stride, width;

        SEQREC_FN void set(int gate, int unit, int row, float value) const {
            const Half rounded = narrow<Half>(value);
            put_in_all<kPlace>(values + row * stride + gate * width + unit,
                               [&](Half* p) { *p = rounded; });
        }
    };

    template <class S>
    SEQREC_FN TensorProduct(const RecurrentWeights<S>& weights, int hidden, int gates,
                            SharedMemory& shared)
        : weights_(reinterpret_cast<const FragmentA*>(weights.packed)),
          hidden_(hidden),
          gates_(gates),
          pairs_((hidden + kPair - 1) / kPair),
          own_(own_turns<kPlace>((hidden + kUnits - 1) / kUnits)) {
        weights_ += own_.begin * fragments(hidden, gates);
        if (kPlace != WeightPlace::stream) {
            const std::int64_t each = fragments(hidden, gates);
            weights_ = shared.keep(weights_, (own_.end - own_.begin) * each, own_.most * each);
        }
    }
    // Padded with zeros.
    SEQREC_FN Operand operand(int gates, SharedMemory& shared) const {
        const int width = pairs_ * kPair, stride = operand_stride(gates * width);
        Half* const values = shared.take<Half>(stride * kRows);
        for (int i = static_cast<int>(threadIdx.x); i < stride * kRows;
             i += static_cast<int>(blockDim.x)) {
            values[i] = {};
        }
        return {values, stride, width};
    }
    static std::size_t weight_bytes(std::int64_t hidden, std::int64_t gates, std::int64_t blocks) {
        return kPlace == WeightPlace::stream
                   ? 0
                   : SharedMemory::bytes<FragmentA>(share(hidden, blocks) *
                                                    fragments(hidden, gates));
    }
    static std::size_t operand_bytes(std::int64_t hidden, std::int64_t gates) {
        const std::int64_t width = (hidden + kPair - 1) / kPair * kPair;
        return SharedMemory::bytes<Half>(operand_stride(static_cast<int>(width * gates)) * kRows);
    }
    static unsigned threads(std::int64_t hidden, std::int64_t blocks) {
        return rnn_threads(share(hidden, blocks), kWarp);
    }

    SEQREC_FN int first_turn() const { return own_.begin + static_cast<int>(threadIdx.x) / kWarp; }
    template <class Visit>
    SEQREC_FN void for_each_turn(const Visit& visit) const {
        for (int turn = first_turn(); turn < own_.end;
             turn += static_cast<int>(blockDim.x) / kWarp) {
            visit(turn);
        }
    }
    SEQREC_FN int unit(int turn, int element) const {
        return turn * kUnits + lane_index() / 4 + element / 2 * 8;
    }
    SEQREC_FN int row(int element) const { return lane_index() % 4 * 2 + element % 2; }
    SEQREC_FN bool has(int unit) const { return unit < hidden_; }

    template <int kCount>
    SEQREC_FN void add_gates(const Operand& left, int first_gate, int turn,
                             float (&sum)[kCount][kElements]) const {
        __syncwarp();  // lanes may have parted
        for (int pair = 0; pair < pairs_; ++pair) {
            const Terms terms = terms_of(left, 0, pair);
            for (int half = 0; half < 2; ++half) {
                for (int g = 0; g < kCount; ++g) {
                    multiply(weight(turn, first_gate + g, pair, half), terms.of[half], sum[g]);
                }
            }
        }
    }
    // Gates are summed apart, since a sum is a chain of products that wait for each other.
    template <int kCount>
    SEQREC_FN void add_transposed(const Operand& left, int first_gate, int turn,
                                  float (&sum)[kElements]) const {
        __syncwarp();
        float part[kCount][kElements] = {};
        for (int pair = 0; pair < pairs_; ++pair) {
            for (int g = 0; g < kCount; ++g) {
                const Terms terms = terms_of(left, first_gate + g, pair);
                for (int half = 0; half < 2; ++half) {
                    multiply(weight(turn, first_gate + g, pair, half), terms.of[half], part[g]);
                }
            }
        }
        for (int g = 0; g < kCount; ++g) {
            for (int i = 0; i < kElements; ++i) {
                sum[i] += part[g][i];
            }
        }
    }

  protected:
    struct alignas(16) Terms {
        FragmentB of[2];
    };

    static SEQREC_FN void multiply(const FragmentA& a, const FragmentB& b, float (&c)[4]) {
        if constexpr (std::is_same_v<Half, Float16>) {
            multiply_float16(a, b, c);
        } else {
            multiply_bfloat16(a, b, c);
        }
    }

    // Turns of a block.
    static std::int64_t share(std::int64_t hidden, std::int64_t blocks) {
        return ((hidden + kUnits - 1) / kUnits + blocks - 1) / blocks;
    }
    // Of a turn.
    static SEQREC_FN constexpr std::int64_t fragments(std::int64_t hidden, std::int64_t gates) {
        return gates * ((hidden + kPair - 1) / kPair) * 2 * kWarp;
    }
    // Rows start in different halves of the banks.
    static SEQREC_FN constexpr int operand_stride(int width) {
        return width % 64 == 0 ? width + 32 : width;
    }

    SEQREC_FN Terms terms_of(const Operand& left, int gate, int pair) const {
        const int lane = lane_index();
        return *reinterpret_cast<const Terms*>(left.values + lane / 4 * left.stride +
                                               gate * left.width + pair * kPair + lane % 4 * 8);
    }
    SEQREC_FN FragmentA weight(int turn, int gate, int pair, int half) const {
        return weights_[((((turn - own_.begin) * gates_ + gate) * pairs_ + pair) * 2 + half) *
                            kWarp +
                        lane_index()];
    }

    const FragmentA* weights_;
    int hidden_, gates_, pairs_;
    OwnTurns own_;
};

}  // namespace cuda
}  // namespace seqrec_fast
