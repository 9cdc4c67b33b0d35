// Items that their codes do not rule out, with what the codes say of their scores.
//
// Scoring waits: a floor that k lower bounds reach is one that no item of the answer is below, and
// it rules out most of the others. So about 2 k of a query's items are scored.

// Per-target include guard
#if defined(SEQREC_CPU_CANDIDATE_POOL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_CANDIDATE_POOL_INL_H_
#undef SEQREC_CPU_CANDIDATE_POOL_INL_H_
#else
#define SEQREC_CPU_CANDIDATE_POOL_INL_H_
#endif

#include <algorithm>
#include <limits>

#include "base/workspace.h"
#include "cpu/simd_math-inl.h"
#include "cpu/topk_selection.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

class CandidatePool {
  public:
    static std::size_t bytes(std::int64_t k, std::int64_t n_rows) {
        return 3 * Workspace::bytes_for<float>(n_rows * waiting_capacity_for(k)) +
               2 * Workspace::bytes_for<std::int64_t>(n_rows);
    }

    // `workspace` has room for bytes(k, n_rows).
    CandidatePool(std::int64_t k, std::int64_t n_rows, Workspace& workspace)
        : k_(k),
          capacity_(waiting_capacity_for(k)),
          step_(k / 4 + 4),
          lowers_(workspace.take<float>(n_rows * capacity_)),
          uppers_(workspace.take<float>(n_rows * capacity_)),
          positions_(workspace.take<std::uint32_t>(n_rows * capacity_)),
          counts_(workspace.take<std::int64_t>(n_rows)),
          triggers_(workspace.take<std::int64_t>(n_rows)) {
        std::fill_n(counts_, n_rows, 0);
        std::fill_n(triggers_, n_rows, k + step_);
    }

    // Adds a candidate of a row. True if it is time to `tighten` the row.
    HWY_INLINE bool add(std::int64_t row, std::int64_t position, float lower, float upper) {
        const std::int64_t at = row * capacity_ + counts_[row];
        lowers_[at] = lower;
        uppers_[at] = upper;
        positions_[at] = static_cast<std::uint32_t>(position);
        return ++counts_[row] == triggers_[row];
    }
    // Raises `floor` to what the row's candidates prove, and drops those below it. True if too many
    // are left: then they have to be taken out.
    bool tighten(std::int64_t row, float& floor) {
        float* const lowers = lowers_ + row * capacity_;
        float* const uppers = uppers_ + row * capacity_;
        std::uint32_t* const positions = positions_ + row * capacity_;
        const std::int64_t n = counts_[row];
        floor = std::max(floor, reached_by_k(lowers, n, floor));
        std::int64_t kept = 0;
        for (std::int64_t i = 0; i < n; ++i) {
            lowers[kept] = lowers[i];
            positions[kept] = positions[i];
            const float upper = uppers[i];
            uppers[kept] = upper;
            kept += upper >= floor ? 1 : 0;
        }
        counts_[row] = kept;
        triggers_[row] = kept + step_;
        return triggers_[row] > capacity_;
    }
    // Takes out the candidates of a row: visit(position).
    template <class Visit>
    void take(std::int64_t row, const Visit& visit) {
        const std::uint32_t* const positions = positions_ + row * capacity_;
        for (std::int64_t i = 0; i < counts_[row]; ++i) {
            visit(static_cast<std::int64_t>(positions[i]));
        }
        counts_[row] = 0;
        triggers_[row] = k_ + step_;
    }

  private:
    static constexpr int kHalvings = 7;

    // Close below the k-th largest value, -inf if there are fewer: found by halving its range,
    // which has no branch per value.
    HWY_INLINE float reached_by_k(const float* values, std::int64_t n, float floor) const {
        constexpr float kInfinity = std::numeric_limits<float>::infinity();
        const Lanes<float> d;
        const auto infinity = hn::Set(d, kInfinity), none = hn::Set(d, -kInfinity);
        auto least = infinity, most = none;
        std::int64_t i = 0;
        for (; i + lane_count<float>() <= n; i += lane_count<float>()) {
            const auto value = hn::LoadU(d, values + i);
            least = hn::Min(least, hn::IfThenElse(hn::Gt(value, none), value, infinity));
            most = hn::Max(most, value);
        }
        float low = hn::GetLane(hn::MinOfLanes(d, least));
        float high = hn::GetLane(hn::MaxOfLanes(d, most));
        for (; i < n; ++i) {
            low = std::min(low, values[i] > -kInfinity ? values[i] : kInfinity);
            high = std::max(high, values[i]);
        }
        low = std::max(low, floor);
        if (count_from(values, n, low) < k_) {
            return -kInfinity;
        }
        for (int halving = 0; halving < kHalvings && low < high; ++halving) {
            const float middle = low / 2 + high / 2;
            if (count_from(values, n, middle) >= k_) {
                low = std::max(low, middle);
            } else {
                high = middle;
            }
        }
        return low;
    }
    static HWY_INLINE std::int64_t count_from(const float* values, std::int64_t n, float least) {
        const Lanes<float> d;
        const auto bound = hn::Set(d, least);
        std::size_t count = 0;
        std::int64_t i = 0;
        for (; i + lane_count<float>() <= n; i += lane_count<float>()) {
            count += hn::CountTrue(d, hn::Ge(hn::LoadU(d, values + i), bound));
        }
        for (; i < n; ++i) {
            count += values[i] >= least ? 1 : 0;
        }
        return static_cast<std::int64_t>(count);
    }

    const std::int64_t k_, capacity_, step_;
    float *lowers_, *uppers_;
    std::uint32_t* positions_;
    std::int64_t *counts_, *triggers_;
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
