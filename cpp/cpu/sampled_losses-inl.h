// Losses of one target against some negatives, and their derivatives with respect to the scores.

// Per-target include guard
#if defined(SEQREC_CPU_SAMPLED_LOSSES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_SAMPLED_LOSSES_INL_H_
#undef SEQREC_CPU_SAMPLED_LOSSES_INL_H_
#else
#define SEQREC_CPU_SAMPLED_LOSSES_INL_H_
#endif

#include <cmath>
#include <limits>

#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// The scores of a row's negatives, -inf where one does not count. They lie in pieces.
template <class T>
struct NegativeScores {
    T* first;
    std::int64_t pieces, piece_size, stride;

    // visit(values): once per vector, in order.
    template <class Visit>
    HWY_INLINE void each(const Visit& visit) const {
        for (std::int64_t p = 0; p < pieces; ++p) {
            T* const piece = first + p * stride;
            for (std::int64_t i = 0; i < piece_size; i += lane_count<T>()) {
                visit(piece + i);
            }
        }
    }

    // Negative j does not count.
    HWY_INLINE void leave_out(std::int64_t j) const {
        first[j / piece_size * stride + j % piece_size] = -std::numeric_limits<T>::infinity();
    }

    // The sums over those that count of what add(scores, values) gives.
    template <int n, class Add>
    HWY_INLINE void sums(T (&results)[n], const Add& add) const {
        const Lanes<T> d;
        hn::Vec<Lanes<T>> totals[n];
        for (auto& total : totals) {
            total = hn::Zero(d);
        }
        each([&](T* at) {
            const auto s = hn::Load(d, at);
            hn::Vec<Lanes<T>> values[n];
            add(s, values);
            for (int i = 0; i < n; ++i) {
                totals[i] = hn::Add(totals[i], hn::IfThenElseZero(counts(s), values[i]));
            }
        });
        for (int i = 0; i < n; ++i) {
            results[i] = hn::GetLane(hn::SumOfLanes(d, totals[i]));
        }
    }
    template <class Value>
    HWY_INLINE T sum(const Value& value) const {
        T result[1];
        sums(result, [&](auto s, auto& values) { values[0] = value(s); });
        return result[0];
    }
    // Replaces scores by derivatives, 0 for those that do not count.
    template <class Derivative>
    HWY_INLINE void replace(const Derivative& derivative) const {
        const Lanes<T> d;
        each([&](T* at) {
            const auto s = hn::Load(d, at);
            hn::Store(hn::IfThenElseZero(counts(s), derivative(s)), d, at);
        });
    }
    HWY_INLINE T largest() const {
        const Lanes<T> d;
        auto most = hn::Set(d, std::numeric_limits<T>::lowest());
        each([&](T* at) { most = hn::Max(most, hn::Load(d, at)); });
        return hn::GetLane(hn::MaxOfLanes(d, most));
    }
    // NaN counts: it must show. Ne is false for it on some targets.
    static HWY_INLINE hn::Mask<Lanes<T>> counts(hn::Vec<Lanes<T>> s) {
        return hn::Not(hn::Eq(s, hn::Set(Lanes<T>(), -std::numeric_limits<T>::infinity())));
    }
};

// Each loss has `value`, given the target's score, and after it `derivatives`, which replaces the
// scores by derivatives times `factor` and returns that of the target's score.

// Sampled softmax (Jean et al., 2015, arXiv:1412.2007): -log(e^p / (e^p + sum e^s)).
template <class T>
struct SoftmaxLoss {
    using M = SimdMath<Lanes<T>>;
    using V = typename M::V;

    HWY_INLINE T value(const NegativeScores<T>& negatives, T target) {
        largest = std::max(target, negatives.largest());
        const V shift = hn::Set(Lanes<T>(), largest);
        others = negatives.sum([&](V s) { return M::exp_of_negative(hn::Sub(s, shift)); });
        total = others + std::exp(target - largest);
        return largest + std::log(total) - target;
    }
    HWY_INLINE T derivatives(const NegativeScores<T>& negatives, T, T factor) const {
        const V shift = hn::Set(Lanes<T>(), largest), scale = hn::Set(Lanes<T>(), factor / total);
        negatives.replace(
            [&](V s) { return hn::Mul(scale, M::exp_of_negative(hn::Sub(s, shift))); });
        return -factor * others / total;
    }

    T largest, others, total;
};

// The corrected logQ correction: the target, which is always there, is no sample. With E the mean
// of e^s over the negatives and w = E / (e^p + E) taken as a constant: w (log(E) - p).
template <class T>
struct CorrectedSoftmaxLoss {
    using M = SimdMath<Lanes<T>>;
    using V = typename M::V;

    HWY_INLINE T value(const NegativeScores<T>& negatives, T target) {
        largest = negatives.largest();
        const V shift = hn::Set(Lanes<T>(), largest);
        sum = negatives.sum([&](V s) { return M::exp_of_negative(hn::Sub(s, shift)); });
        if (sum == 0) {
            weight = 0;
            return 0;
        }
        const T gap = largest + std::log(sum / static_cast<T>(n_negatives)) - target;
        weight = 1 / (1 + std::exp(-gap));
        return weight * gap;
    }
    HWY_INLINE T derivatives(const NegativeScores<T>& negatives, T, T factor) const {
        const T share = sum == 0 ? 0 : factor * weight / sum;
        const V shift = hn::Set(Lanes<T>(), largest), scale = hn::Set(Lanes<T>(), share);
        negatives.replace(
            [&](V s) { return hn::Mul(scale, M::exp_of_negative(hn::Sub(s, shift))); });
        return -factor * weight;
    }

    std::int64_t n_negatives;
    T largest, sum, weight;
};

// BPR-max (Hidasi & Karatzoglou, 2018, arXiv:1706.03847), q the softmax over the negatives:
//     -log(sum q sigmoid(p - s) + 1e-24) + regularization * sum q s^2
template <class T>
struct BprMaxLoss {
    using M = SimdMath<Lanes<T>>;
    using V = typename M::V;

    HWY_INLINE T value(const NegativeScores<T>& negatives, T target) {
        largest = negatives.largest();
        const V shift = hn::Set(Lanes<T>(), largest), p = hn::Set(Lanes<T>(), target);

        T totals[3];
        negatives.sums(totals, [&](V s, auto& values) {
            values[0] = M::exp_of_negative(hn::Sub(s, shift));
            values[1] = hn::Mul(values[0], M::sigmoid(hn::Sub(p, s)));
            values[2] = hn::Mul(values[0], hn::Mul(s, s));
        });
        const T sum = totals[0];
        inverse = sum == 0 ? 0 : 1 / sum;
        won = inverse * totals[1];
        size = inverse * totals[2];
        return sum == 0 ? 0 : -std::log(won + kTiny) + regularization * size;
    }
    HWY_INLINE T derivatives(const NegativeScores<T>& negatives, T target, T factor) const {
        const Lanes<T> d;
        const V shift = hn::Set(d, largest), p = hn::Set(d, target), one = hn::Set(d, T(1));
        const V minus_rate = hn::Set(d, -1 / (won + kTiny)), mean_won = hn::Set(d, won);
        const V lambda = hn::Set(d, regularization), mean_size = hn::Set(d, size);
        const V scale = hn::Set(d, factor * inverse);
        V own = hn::Zero(d);
        negatives.replace([&](V s) {
            const V q = hn::Mul(scale, M::exp_of_negative(hn::Sub(s, shift)));
            const V u = M::sigmoid(hn::Sub(p, s));
            const V slope = hn::Mul(u, hn::Sub(one, u));
            const V through_rate = hn::Mul(minus_rate, hn::Sub(hn::Sub(u, mean_won), slope));
            const V squares = hn::Sub(hn::MulAdd(s, s, hn::Add(s, s)), mean_size);
            own = hn::Add(own, hn::IfThenElseZero(NegativeScores<T>::counts(s),
                                                  hn::Mul(q, hn::Mul(minus_rate, slope))));
            return hn::Mul(q, hn::MulAdd(lambda, squares, through_rate));
        });
        return hn::GetLane(hn::SumOfLanes(d, own));
    }

    static constexpr T kTiny = static_cast<T>(1e-24);
    T regularization;
    T largest, inverse, won, size;
};

// TOP1-max (the same paper): sum q (sigmoid(s - p) + sigmoid(s^2)).
template <class T>
struct Top1MaxLoss {
    using M = SimdMath<Lanes<T>>;
    using V = typename M::V;

    HWY_INLINE T value(const NegativeScores<T>& negatives, T target) {
        largest = negatives.largest();
        const V shift = hn::Set(Lanes<T>(), largest), p = hn::Set(Lanes<T>(), target);

        T totals[2];
        negatives.sums(totals, [&](V s, auto& values) {
            values[0] = M::exp_of_negative(hn::Sub(s, shift));
            const V sum = hn::Add(M::sigmoid(hn::Sub(s, p)), M::sigmoid(hn::Mul(s, s)));
            values[1] = hn::Mul(values[0], sum);
        });
        inverse = totals[0] == 0 ? 0 : 1 / totals[0];
        mean = inverse * totals[1];
        return mean;
    }
    HWY_INLINE T derivatives(const NegativeScores<T>& negatives, T target, T factor) const {
        const Lanes<T> d;
        const V shift = hn::Set(d, largest), p = hn::Set(d, target), one = hn::Set(d, T(1));
        const V scale = hn::Set(d, factor * inverse), all = hn::Set(d, mean);
        V own = hn::Zero(d);
        negatives.replace([&](V s) {
            const V q = hn::Mul(scale, M::exp_of_negative(hn::Sub(s, shift)));
            const V u = M::sigmoid(hn::Sub(s, p)), w = M::sigmoid(hn::Mul(s, s));
            const V slope = hn::Mul(u, hn::Sub(one, u));
            const V size_slope = hn::Mul(hn::Add(s, s), hn::Mul(w, hn::Sub(one, w)));
            own = hn::Sub(own, hn::IfThenElseZero(NegativeScores<T>::counts(s), hn::Mul(q, slope)));
            return hn::Mul(q, hn::Add(hn::Sub(hn::Add(u, w), all), hn::Add(slope, size_slope)));
        });
        return hn::GetLane(hn::SumOfLanes(d, own));
    }

    T largest, inverse, mean;
};

// Generalised binary cross-entropy (Petrov & Macdonald, 2023, arXiv:2308.07192):
//     -beta log(sigmoid(p)) - sum log(1 - sigmoid(s))
template <class T>
struct GbceLoss {
    using M = SimdMath<Lanes<T>>;
    using V = typename M::V;

    HWY_INLINE T value(const NegativeScores<T>& negatives, T target) const {
        const Lanes<T> d;
        const T others = negatives.sum([&](V s) {
            const V tail = M::exp_of_negative(hn::Neg(hn::Abs(s)));
            return hn::Add(hn::Max(s, hn::Zero(d)), hn::Log1p(d, tail));
        });
        return beta * (std::max(-target, T(0)) + std::log1p(std::exp(-std::abs(target)))) + others;
    }
    HWY_INLINE T derivatives(const NegativeScores<T>& negatives, T target, T factor) const {
        const V scale = hn::Set(Lanes<T>(), factor);
        negatives.replace([&](V s) { return hn::Mul(scale, M::sigmoid(s)); });
        return -factor * beta / (1 + std::exp(target));
    }

    T beta;
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
