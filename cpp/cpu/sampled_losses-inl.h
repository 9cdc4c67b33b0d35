// The scores of a row's negatives, as cells/sampled_losses-inl.h takes them.

// Per-target include guard
#if defined(SEQREC_CPU_SAMPLED_LOSSES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_SAMPLED_LOSSES_INL_H_
#undef SEQREC_CPU_SAMPLED_LOSSES_INL_H_
#else
#define SEQREC_CPU_SAMPLED_LOSSES_INL_H_
#endif

#include <cmath>
#include <limits>

#include "cells/sampled_losses-inl.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// The scores of a row's negatives, -inf where one does not count. They lie in pieces.
template <class T>
struct NegativeScores {
    using M = SimdMath<Lanes<T>>;

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
    // `value` where a score counts, else 0; and the sum of what replace() has made of it.
    static HWY_INLINE hn::Vec<Lanes<T>> if_counts(hn::Vec<Lanes<T>> s, hn::Vec<Lanes<T>> value) {
        return hn::IfThenElseZero(counts(s), value);
    }
    static HWY_INLINE T total(hn::Vec<Lanes<T>> sum) {
        return hn::GetLane(hn::SumOfLanes(Lanes<T>(), sum));
    }
    // NaN counts: it must show. Ne is false for it on some targets.
    static HWY_INLINE hn::Mask<Lanes<T>> counts(hn::Vec<Lanes<T>> s) {
        return hn::Not(hn::Eq(s, hn::Set(Lanes<T>(), -std::numeric_limits<T>::infinity())));
    }
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
