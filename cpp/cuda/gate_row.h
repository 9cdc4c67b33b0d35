// What the passes of the gate know of one row; a warp has a row.
#pragma once

#include <cstdint>
#include <limits>

#include "args/gate_args.h"
#include "cells/gate_cell-inl.h"
#include "cuda/device_math.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

constexpr unsigned kGateThreads = 256;

// Whether weights are shares of their own sum; else those of a softmax are of that over all.
template <class T>
SEQREC_FN bool shares_of_chosen(const GateInputs<T>& inputs) {
    return inputs.renormalize ||
           (inputs.score == GateScore::softmax && inputs.order == GateOrder::topk_then_score);
}

template <class T>
struct SoftmaxSums {
    T shift = 0, total = 0;
};

template <class T>
class GateRow {
  public:
    using M = DeviceMath<T>;

    SEQREC_FN GateRow(const GateInputs<T>& inputs, std::int64_t row)
        : in_(inputs),
          logits_(inputs.logits + row * inputs.experts),
          mask_(inputs.mask == nullptr ? nullptr : inputs.mask + row * inputs.mask_stride) {}

    // NaN: no candidate.
    SEQREC_FN T logit(std::int64_t e) const {
        return mask_ != nullptr && mask_[e] == 0 ? std::numeric_limits<T>::quiet_NaN() : logits_[e];
    }
    SEQREC_FN T finite_logit(std::int64_t e) const { return M::clamp_to_finite(logit(e)); }

    // Largest of the candidates, and the sum of their exp(x - largest).
    SEQREC_FN SoftmaxSums<T> softmax_sums() const {
        SoftmaxSums<T> sums;
        sums.shift = -std::numeric_limits<T>::max();
        for (std::int64_t e = lane_index(); e < in_.experts; e += kWarp) {
            const T x = finite_logit(e);
            sums.shift = x > sums.shift ? x : sums.shift;
        }
        sums.shift = warp_max(sums.shift);
        for (std::int64_t e = lane_index(); e < in_.experts; e += kWarp) {
            const T x = finite_logit(e);
            sums.total += x == x ? SoftmaxScore::apply<M>(x, sums.shift) : T(0);
        }
        sums.total = warp_sum(sums.total);
        return sums;
    }

    // The sums that the scores of the chosen need: over them alone, or those over all, which come
    // as `all`. Scores go to `scores` in place of logits.
    template <class Score>
    SEQREC_FN SoftmaxSums<T> score_chosen(const std::int64_t* ids, const SoftmaxSums<T>& all,
                                          T* scores) const {
        const bool shares = shares_of_chosen(in_);
        SoftmaxSums<T> sums = all;
        if (Score::kSumsOverExperts && shares) {
            sums.shift = -std::numeric_limits<T>::max();
            for (std::int64_t j = lane_index(); j < in_.k; j += kWarp) {
                const T x = ids[j] < 0 ? sums.shift : finite_logit(ids[j]);
                sums.shift = x > sums.shift ? x : sums.shift;
            }
            sums.shift = warp_max(sums.shift);
        }
        T total = 0;
        for (std::int64_t j = lane_index(); j < in_.k; j += kWarp) {
            scores[j] =
                ids[j] < 0 ? T(0) : Score::template apply<M>(finite_logit(ids[j]), sums.shift);
            total += scores[j];
        }
        total = warp_sum(total);
        if (shares) {
            sums.total = total;
        } else if (!Score::kSumsOverExperts) {
            sums.total = 1;
        }
        return sums;
    }

    // What the weights are scores times.
    SEQREC_FN T factor(const SoftmaxSums<T>& sums) const {
        return sums.total > 0 ? static_cast<T>(in_.scale) / sums.total : T(0);
    }

  private:
    const GateInputs<T>& in_;
    const T* logits_;
    const std::uint8_t* mask_;
};

// Calls visit(Score()) with the score's formula.
template <class Visit>
SEQREC_FN void with_score(GateScore score, const Visit& visit) {
    switch (score) {
        case GateScore::softmax: return visit(SoftmaxScore());
        case GateScore::sigmoid: return visit(SigmoidScore());
        case GateScore::sqrt_softplus: return visit(SqrtSoftplusScore());
    }
}

}  // namespace cuda
}  // namespace seqrec_fast
