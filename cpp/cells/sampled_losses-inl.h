// Losses of one target against some negatives, and their derivatives with respect to the scores.
// Negatives gives the arithmetic M, their largest score, sums over them, and replaces them:
// cpu/sampled_losses-inl.h.

// Per-target include guard
#if defined(SEQREC_CELLS_SAMPLED_LOSSES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_SAMPLED_LOSSES_INL_H_
#undef SEQREC_CELLS_SAMPLED_LOSSES_INL_H_
#else
#define SEQREC_CELLS_SAMPLED_LOSSES_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

// Each loss has `value`, given the target's score, and after it `derivatives`, which replaces the
// scores by derivatives times `factor` and returns that of the target's score.

// Sampled softmax (Jean et al., 2015, arXiv:1412.2007): -log(e^p / (e^p + sum e^s)).
template <class T>
struct SoftmaxLoss {
    template <class Negatives, class M = typename Negatives::M, class V = typename M::V>
    SEQREC_FN T value(const Negatives& negatives, T target) {
        largest = std::max(target, negatives.largest());
        const V shift = M::set(largest);
        others = negatives.sum([&](V s) { return M::exp_of_negative(M::sub(s, shift)); });
        total = others + std::exp(target - largest);
        return largest + std::log(total) - target;
    }
    template <class Negatives, class M = typename Negatives::M, class V = typename M::V>
    SEQREC_FN T derivatives(const Negatives& negatives, T, T factor) const {
        const V shift = M::set(largest), scale = M::set(factor / total);
        negatives.replace([&](V s) { return M::mul(scale, M::exp_of_negative(M::sub(s, shift))); });
        return -factor * others / total;
    }

    T largest, others, total;
};

// The corrected logQ correction: the target, which is always there, is no sample. With E the mean
// of e^s over the negatives and w = E / (e^p + E) taken as a constant: w (log(E) - p).
template <class T>
struct CorrectedSoftmaxLoss {
    template <class Negatives, class M = typename Negatives::M, class V = typename M::V>
    SEQREC_FN T value(const Negatives& negatives, T target) {
        largest = negatives.largest();
        const V shift = M::set(largest);
        sum = negatives.sum([&](V s) { return M::exp_of_negative(M::sub(s, shift)); });
        if (sum == 0) {
            weight = 0;
            return 0;
        }
        const T gap = largest + std::log(sum / static_cast<T>(n_negatives)) - target;
        weight = 1 / (1 + std::exp(-gap));
        return weight * gap;
    }
    template <class Negatives, class M = typename Negatives::M, class V = typename M::V>
    SEQREC_FN T derivatives(const Negatives& negatives, T, T factor) const {
        const T share = sum == 0 ? 0 : factor * weight / sum;
        const V shift = M::set(largest), scale = M::set(share);
        negatives.replace([&](V s) { return M::mul(scale, M::exp_of_negative(M::sub(s, shift))); });
        return -factor * weight;
    }

    std::int64_t n_negatives;
    T largest, sum, weight;
};

// BPR-max (Hidasi & Karatzoglou, 2018, arXiv:1706.03847), q the softmax over the negatives:
//     -log(sum q sigmoid(p - s) + 1e-24) + regularization * sum q s^2
template <class T>
struct BprMaxLoss {
    template <class Negatives, class M = typename Negatives::M, class V = typename M::V>
    SEQREC_FN T value(const Negatives& negatives, T target) {
        largest = negatives.largest();
        const V shift = M::set(largest), p = M::set(target);

        T totals[3];
        negatives.sums(totals, [&](V s, auto& values) {
            values[0] = M::exp_of_negative(M::sub(s, shift));
            values[1] = M::mul(values[0], M::sigmoid(M::sub(p, s)));
            values[2] = M::mul(values[0], M::mul(s, s));
        });
        const T sum = totals[0];
        inverse = sum == 0 ? 0 : 1 / sum;
        won = inverse * totals[1];
        size = inverse * totals[2];
        return sum == 0 ? 0 : -std::log(won + kTiny) + regularization * size;
    }
    template <class Negatives, class M = typename Negatives::M, class V = typename M::V>
    SEQREC_FN T derivatives(const Negatives& negatives, T target, T factor) const {
        const V shift = M::set(largest), p = M::set(target), one = M::set(1);
        const V minus_rate = M::set(-1 / (won + kTiny)), mean_won = M::set(won);
        const V lambda = M::set(regularization), mean_size = M::set(size);
        const V scale = M::set(factor * inverse);
        V own = M::set(0);
        negatives.replace([&](V s) {
            const V q = M::mul(scale, M::exp_of_negative(M::sub(s, shift)));
            const V u = M::sigmoid(M::sub(p, s));
            const V slope = M::mul(u, M::sub(one, u));
            const V through_rate = M::mul(minus_rate, M::sub(M::sub(u, mean_won), slope));
            const V squares = M::sub(M::mul_add(s, s, M::add(s, s)), mean_size);
            own = M::add(own, Negatives::if_counts(s, M::mul(q, M::mul(minus_rate, slope))));
            return M::mul(q, M::mul_add(lambda, squares, through_rate));
        });
        return negatives.total(own);
    }

    static constexpr T kTiny = static_cast<T>(1e-24);
    T regularization;
    T largest, inverse, won, size;
};

// TOP1-max (the same paper): sum q (sigmoid(s - p) + sigmoid(s^2)).
template <class T>
struct Top1MaxLoss {
    template <class Negatives, class M = typename Negatives::M, class V = typename M::V>
    SEQREC_FN T value(const Negatives& negatives, T target) {
        largest = negatives.largest();
        const V shift = M::set(largest), p = M::set(target);

        T totals[2];
        negatives.sums(totals, [&](V s, auto& values) {
            values[0] = M::exp_of_negative(M::sub(s, shift));
            const V sum = M::add(M::sigmoid(M::sub(s, p)), M::sigmoid(M::mul(s, s)));
            values[1] = M::mul(values[0], sum);
        });
        inverse = totals[0] == 0 ? 0 : 1 / totals[0];
        mean = inverse * totals[1];
        return mean;
    }
    template <class Negatives, class M = typename Negatives::M, class V = typename M::V>
    SEQREC_FN T derivatives(const Negatives& negatives, T target, T factor) const {
        const V shift = M::set(largest), p = M::set(target), one = M::set(1);
        const V scale = M::set(factor * inverse), all = M::set(mean);
        V own = M::set(0);
        negatives.replace([&](V s) {
            const V q = M::mul(scale, M::exp_of_negative(M::sub(s, shift)));
            const V u = M::sigmoid(M::sub(s, p)), w = M::sigmoid(M::mul(s, s));
            const V slope = M::mul(u, M::sub(one, u));
            const V size_slope = M::mul(M::add(s, s), M::mul(w, M::sub(one, w)));
            own = M::sub(own, Negatives::if_counts(s, M::mul(q, slope)));
            return M::mul(q, M::add(M::sub(M::add(u, w), all), M::add(slope, size_slope)));
        });
        return negatives.total(own);
    }

    T largest, inverse, mean;
};

// Generalised binary cross-entropy (Petrov & Macdonald, 2023, arXiv:2308.07192):
//     -beta log(sigmoid(p)) - sum log(1 - sigmoid(s))
template <class T>
struct GbceLoss {
    template <class Negatives, class M = typename Negatives::M, class V = typename M::V>
    SEQREC_FN T value(const Negatives& negatives, T target) const {
        const T others = negatives.sum([&](V s) {
            const V tail = M::exp_of_negative(M::sub(M::set(0), M::abs(s)));
            return M::add(M::relu(s), M::log1p(tail));
        });
        return beta * (std::max(-target, T(0)) + std::log1p(std::exp(-std::abs(target)))) + others;
    }
    template <class Negatives, class M = typename Negatives::M, class V = typename M::V>
    SEQREC_FN T derivatives(const Negatives& negatives, T target, T factor) const {
        const V scale = M::set(factor);
        negatives.replace([&](V s) { return M::mul(scale, M::sigmoid(s)); });
        return -factor * beta / (1 + std::exp(target));
    }

    T beta;
};

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
