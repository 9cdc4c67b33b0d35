// Some rows of a gate at a time: what was chosen, slot by slot, and how it becomes weights.

// Per-target include guard
#if defined(SEQREC_CPU_GATE_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_GATE_TILE_INL_H_
#undef SEQREC_CPU_GATE_TILE_INL_H_
#else
#define SEQREC_CPU_GATE_TILE_INL_H_
#endif

#include <algorithm>
#include <cstdint>
#include <limits>

#include "base/workspace.h"
#include "cells/gate_cell-inl.h"
#include "cpu/gate_kernels.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

constexpr std::int64_t kGateRows = 16;
// Rows of one task: enough that handing it out costs little.
constexpr std::int64_t kGateTaskRows = 16 * kGateRows;

// Ids lie in vectors beside values of T.
template <class T>
using LaneId = hwy::MakeSigned<T>;

// Slot j of row r is at [j * kGateRows + r].
template <class T>
struct GateTile {
    T* values;       // logits, or what they were chosen by
    LaneId<T>* ids;  // -1: no candidate
    T* factors;      // of the kind that the pass needs: gradients of weights
    T shift[kGateRows] = {}, total[kGateRows] = {};

    static std::size_t bytes(std::int64_t k) {
        return 2 * Workspace::bytes_for<T>(k * kGateRows) +
               Workspace::bytes_for<LaneId<T>>(k * kGateRows);
    }
    GateTile(Workspace& workspace, std::int64_t k)
        : values(workspace.take<T>(k * kGateRows)),
          ids(workspace.take<LaneId<T>>(k * kGateRows)),
          factors(workspace.take<T>(k * kGateRows)) {}
};

// The first n of a row from `p` on, and NaN, which is no candidate, in the other lanes.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_candidates(D d, const T* p, std::int64_t n) {
    constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(D()));
    if (HWY_LIKELY(n >= kLanes)) {
        return hn::LoadU(d, p);
    }
    const auto used = hn::FirstN(d, static_cast<std::size_t>(n));
    return hn::IfThenElse(used, load_part(d, p, n),
                          hn::Set(d, std::numeric_limits<T>::quiet_NaN()));
}

// Largest of the candidates among `n` logits, and the sum of their exp(x - largest).
template <class T>
void softmax_sums(const T* logits, std::int64_t n, T& shift, T& total) {
    using M = SimdMath<Lanes<T>>;
    const Lanes<T> d;
    auto most = M::set(-static_cast<double>(std::numeric_limits<T>::max()));
    for (std::int64_t e = 0; e < n; e += lane_count<T>()) {
        const auto x = M::clamp_to_finite(load_candidates(d, logits + e, n - e));
        most = hn::IfThenElse(hn::Gt(x, most), x, most);
    }
    most = hn::MaxOfLanes(d, most);
    auto sum = hn::Zero(d);
    for (std::int64_t e = 0; e < n; e += lane_count<T>()) {
        const auto x = M::clamp_to_finite(load_candidates(d, logits + e, n - e));
        sum = hn::Add(sum, hn::IfThenZeroElse(hn::IsNaN(x), SoftmaxScore::apply<M>(x, most)));
    }
    shift = hn::GetLane(most);
    total = hn::GetLane(hn::SumOfLanes(d, sum));
}

// Whether weights are shares of their own sum; else those of a softmax are of that over all
// experts.
template <class T>
bool shares_of_chosen(const GateInputs<T>& inputs) {
    return inputs.renormalize ||
           (inputs.score == GateScore::softmax && inputs.order == GateOrder::topk_then_score);
}

// Scores of the chosen, in `values` in place of their logits, and what divides them, in `total`;
// in `slopes`, if it is not null, the derivatives of the scores. `total` and `shift` come with the
// sums over all experts where those are asked for.
template <class Score, class T>
HWY_INLINE void score_chosen(GateTile<T>& tile, std::int64_t k, bool shares, T* slopes) {
    using M = SimdMath<Lanes<T>>;
    const Lanes<T> d;
    const hn::RebindToSigned<Lanes<T>> di;
    for (std::int64_t r = 0; r < kGateRows; r += lane_count<T>()) {
        const auto logit = [&](std::int64_t j) {
            return M::clamp_to_finite(hn::LoadU(d, tile.values + j * kGateRows + r));
        };
        const auto chosen = [&](std::int64_t j) {
            const auto id = hn::LoadU(di, tile.ids + j * kGateRows + r);
            return hn::RebindMask(d, hn::Gt(id, hn::Set(di, -1)));
        };
        auto shift = hn::LoadU(d, tile.shift + r);
        if (Score::kSumsOverExperts && shares) {
            shift = M::set(-static_cast<double>(std::numeric_limits<T>::max()));
            for (std::int64_t j = 0; j < k; ++j) {
                const auto x = logit(j);
                shift = hn::IfThenElse(hn::And(chosen(j), hn::Gt(x, shift)), x, shift);
            }
        }
        auto total = hn::Zero(d);
        for (std::int64_t j = 0; j < k; ++j) {
            const auto x = logit(j), s = Score::template apply<M>(x, shift);
            if (slopes != nullptr) {
                const auto slope = Score::template grad<M>(x, s);
                hn::StoreU(hn::IfThenElseZero(chosen(j), slope), d, slopes + j * kGateRows + r);
            }
            const auto score = hn::IfThenElseZero(chosen(j), s);
            hn::StoreU(score, d, tile.values + j * kGateRows + r);
            total = hn::Add(total, score);
        }
        if (shares) {
            hn::StoreU(total, d, tile.total + r);
        } else if (!Score::kSumsOverExperts) {
            hn::StoreU(M::set(1), d, tile.total + r);
        }
    }
}

// Calls visit(Score()) with the score's formula.
template <class Visit>
HWY_INLINE void with_score(GateScore score, const Visit& visit) {
    switch (score) {
        case GateScore::softmax: return visit(SoftmaxScore());
        case GateScore::sigmoid: return visit(SigmoidScore());
        case GateScore::sqrt_softplus: return visit(SqrtSoftplusScore());
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
