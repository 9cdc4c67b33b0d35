// One row of a sampled loss: from the products with its negatives to its loss and derivatives.

// Per-target include guard
#if defined(SEQREC_CPU_SAMPLED_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_SAMPLED_ROW_INL_H_
#undef SEQREC_CPU_SAMPLED_ROW_INL_H_
#else
#define SEQREC_CPU_SAMPLED_ROW_INL_H_
#endif

#include <algorithm>
#include <limits>

#include "cpu/sampled_loss_kernels.h"
#include "cpu/sampled_losses-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
HWY_INLINE T dot(const T* a, const T* b, std::int64_t dim) {
    const Lanes<T> d;
    auto sum = hn::Zero(d);
    for (std::int64_t k = 0; k < dim; k += lane_count<T>()) {
        sum = hn::MulAdd(load_part(d, a + k, dim - k), load_part(d, b + k, dim - k), sum);
    }
    return hn::GetLane(hn::SumOfLanes(d, sum));
}

// What rows with the same set of negatives share.
template <class T>
class SampledRow {
  public:
    // `adjust` and `activations` have room for `padded` values, a multiple of the vectors.
    SampledRow(const SampledLossArgs<T>& args, std::int64_t group, std::int64_t padded, T* adjust,
               T* activations)
        : args_(args),
          ids_(args.negatives + group * args.n_negatives),
          adjust_(adjust),
          activations_(activations) {
        const T* const log_q =
            args.log_q == nullptr ? nullptr : args.log_q + group * args.n_negatives;
        for (std::int64_t j = 0; j < args.n_negatives; ++j) {
            adjust_[j] = (args.bias == nullptr ? T(0) : args.bias[ids_[j]]) -
                         (log_q == nullptr ? T(0) : log_q[j]);
        }
        std::fill(adjust_ + args.n_negatives, adjust_ + padded,
                  -std::numeric_limits<T>::infinity());
    }

    const std::int64_t* ids() const { return ids_; }

    // The loss of row `r`; gradients take the place of the products.
    void finish(std::int64_t r, const NegativeScores<T>& negatives) const {
        const Lanes<T> d;
        const T* adjust = adjust_;
        const auto scale = hn::Set(d, static_cast<T>(args_.scale));
        negatives.each([&](T* at) {
            hn::Store(hn::MulAdd(scale, hn::Load(d, at), hn::Load(d, adjust)), d, at);
            adjust += lane_count<T>();
        });
        const std::int64_t target = args_.target[r];
        if (args_.collisions == Collisions::own) {
            negatives.leave_out(r);
        }
        if (args_.collisions == Collisions::mask) {
            leave_out_item(negatives, target);
        }
        const T product =
            dot(args_.hidden + r * args_.dim, args_.weight + target * args_.dim, args_.dim);
        T own = static_cast<T>(args_.scale) * product +
                (args_.bias == nullptr ? T(0) : args_.bias[target]) -
                (args_.target_log_q == nullptr ? T(0) : args_.target_log_q[r]);
        const bool activated = args_.elu >= 0;
        if (activated) {
            negatives.each([&](T* at) { hn::Store(elu(hn::Load(d, at)), d, at); });
            own = own < 0 ? static_cast<T>(args_.elu) * std::expm1(own) : own;
        }
        if (activated && args_.row_grad != nullptr) {
            T* to = activations_;
            negatives.each([&](T* at) {
                hn::StoreU(hn::Load(d, at), d, to);
                to += lane_count<T>();
            });
        }
        T down = finish_by_kind(r, negatives, own);
        if (args_.row_grad == nullptr) {
            return;
        }
        if (activated) {
            const T* from = activations_;
            negatives.each([&](T* at) {
                hn::Store(hn::Mul(hn::Load(d, at), elu_slope(hn::LoadU(d, from))), d, at);
                from += lane_count<T>();
            });
            down *= own <= 0 ? own + static_cast<T>(args_.elu) : T(1);
        }
        args_.dtarget_scores[r] = down;
    }

    // The gradient of hidden row `r`, given its part `from` through the negatives.
    void finish_hidden(std::int64_t r, const T* from) const {
        T* const to = args_.dhidden + r * args_.dim;
        const T* const target = args_.weight + args_.target[r] * args_.dim;
        const auto scale = static_cast<T>(args_.scale);
        for (std::int64_t k = 0; k < args_.dim; ++k) {
            to[k] = scale * (from[k] + args_.dtarget_scores[r] * target[k]);
        }
    }

  private:
    T finish_by_kind(std::int64_t r, const NegativeScores<T>& negatives, T own) const {
        switch (args_.kind) {
            case SampledLoss::softmax: return finish_loss(SoftmaxLoss<T>(), r, negatives, own);
            case SampledLoss::corrected_softmax: {
                CorrectedSoftmaxLoss<T> loss{};
                loss.n_negatives = args_.n_negatives;
                return finish_loss(loss, r, negatives, own);
            }
            case SampledLoss::bpr_max: {
                BprMaxLoss<T> loss{};
                loss.regularization = static_cast<T>(args_.regularization);
                return finish_loss(loss, r, negatives, own);
            }
            case SampledLoss::top1_max: return finish_loss(Top1MaxLoss<T>(), r, negatives, own);
            case SampledLoss::gbce: break;
        }
        return finish_loss(GbceLoss<T>{static_cast<T>(args_.beta)}, r, negatives, own);
    }

    // The loss; derivatives take the place of the scores. Returns the target's.
    template <class Loss>
    T finish_loss(Loss loss, std::int64_t r, const NegativeScores<T>& negatives, T own) const {
        args_.loss[r] = loss.value(negatives, own);
        return args_.row_grad == nullptr ? T(0)
                                         : loss.derivatives(negatives, own, args_.row_grad[r]);
    }

    void leave_out_item(const NegativeScores<T>& negatives, std::int64_t item) const {
        // Hits are rare: some ids are compared at a time.
        constexpr std::int64_t kAtOnce = 32;
        for (std::int64_t first = 0; first < args_.n_negatives; first += kAtOnce) {
            const std::int64_t end = std::min(args_.n_negatives, first + kAtOnce);
            std::int64_t hits = 0;
            for (std::int64_t j = first; j < end; ++j) {
                hits += ids_[j] == item ? 1 : 0;
            }
            for (std::int64_t j = first; hits > 0 && j < end; ++j) {
                if (ids_[j] == item) {
                    negatives.leave_out(j);
                    --hits;
                }
            }
        }
    }

    HWY_INLINE hn::Vec<Lanes<T>> elu(hn::Vec<Lanes<T>> s) const {
        const Lanes<T> d;
        const auto alpha = hn::Set(d, static_cast<T>(args_.elu));
        const auto below = hn::Mul(alpha, hn::Expm1(d, hn::Min(s, hn::Zero(d))));
        const auto value = hn::IfThenElse(hn::Lt(s, hn::Zero(d)), below, s);
        // What does not count stays -inf.
        return hn::IfThenElse(NegativeScores<T>::counts(s), value, s);
    }
    HWY_INLINE hn::Vec<Lanes<T>> elu_slope(hn::Vec<Lanes<T>> value) const {
        const Lanes<T> d;
        const auto alpha = hn::Set(d, static_cast<T>(args_.elu));
        const auto below =
            hn::IfThenElseZero(NegativeScores<T>::counts(value), hn::Add(value, alpha));
        // At 0 as below it, also where alpha is 0.
        return hn::IfThenElse(hn::Le(value, hn::Zero(d)), below, hn::Set(d, T(1)));
    }

    const SampledLossArgs<T>& args_;
    const std::int64_t* ids_;
    T* adjust_;
    T* activations_;
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
