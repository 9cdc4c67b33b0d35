// The product of a step on tensor cores with the weights in registers for the whole sequence: of
// all that a step reads, only the states are left in shared memory.
#pragma once

#include "cuda/rnn_tensor_product.h"
#include "cuda/unroll.h"

namespace seqrec_fast {
namespace cuda {

// Every warp has one turn: 16 units of all gates, 16 to 128 registers of a thread. The sums are
// those of TensorProduct, in the same order.
template <class Half, int kGates>
class RegisterProduct : public TensorProduct<Half, WeightPlace::stream> {
    using Base = TensorProduct<Half, WeightPlace::stream>;

  public:
    using Base::kElements;
    using typename Base::Operand;
    static constexpr int kMostPairs = 4;
    static constexpr unsigned kMostThreads = kMostPairs * Base::kPair / Base::kUnits * kWarp;

    static bool holds(std::int64_t hidden) { return hidden <= kMostPairs * Base::kPair; }

    template <class S>
    SEQREC_FN RegisterProduct(const RecurrentWeights<S>& weights, int hidden, int gates,
                              SharedMemory& shared)
        : Base(weights, hidden, gates, shared) {
        SEQREC_UNROLL
        for (int g = 0; g < kGates; ++g) {
            SEQREC_UNROLL
            for (int i = 0; i < 2 * kMostPairs; ++i) {
                kept_[g][i] = i / 2 < this->pairs_
                                  ? this->weight(this->first_turn(), g, i / 2, i % 2)
                                  : FragmentA{};
            }
        }
    }

    template <int kCount>
    SEQREC_FN void add_gates(const Operand& left, int first_gate, int /*turn*/,
                             float (&sum)[kCount][kElements]) const {
        __syncwarp();  // lanes may have parted
        SEQREC_UNROLL
        for (int pair = 0; pair < kMostPairs; ++pair) {
            if (pair < this->pairs_) {
                const auto terms = this->terms_of(left, 0, pair);
                SEQREC_UNROLL
                for (int i = 0; i < 2 * kCount; ++i) {
                    const int half = i / kCount, g = i % kCount;
                    Base::multiply(kept_[first_gate + g][2 * pair + half], terms.of[half], sum[g]);
                }
            }
        }
    }
    template <int kCount>
    SEQREC_FN void add_transposed(const Operand& left, int first_gate, int /*turn*/,
                                  float (&sum)[kElements]) const {
        __syncwarp();
        float part[kCount][kElements] = {};
        SEQREC_UNROLL
        for (int pair = 0; pair < kMostPairs; ++pair) {
            if (pair < this->pairs_) {
                SEQREC_UNROLL
                for (int g = 0; g < kCount; ++g) {
                    const auto terms = this->terms_of(left, first_gate + g, pair);
                    Base::multiply(kept_[first_gate + g][2 * pair], terms.of[0], part[g]);
                    Base::multiply(kept_[first_gate + g][2 * pair + 1], terms.of[1], part[g]);
                }
            }
        }
        SEQREC_UNROLL
        for (int i = 0; i < kCount * kElements; ++i) {
            sum[i % kElements] += part[i / kElements][i % kElements];
        }
    }

  private:
    FragmentA kept_[kGates][2 * kMostPairs];
};

}  // namespace cuda
}  // namespace seqrec_fast
