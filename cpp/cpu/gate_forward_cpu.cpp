// The expert gate on the CPU, for every target: which experts a row chooses, and their weights.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gate_forward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <vector>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/gate_choice-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
class GateTask {
  public:
    explicit GateTask(const ExpertGateArgs<T>& args)
        : args_(args),
          in_(args.inputs),
          by_score_(in_.bias != nullptr && in_.order == GateOrder::score_then_topk),
          sums_(in_.score == GateScore::softmax && (by_score_ || !shares_of_chosen(in_))),
          copies_(in_.bias != nullptr || in_.mask != nullptr),
          workspace_(reserved()),
          keys_(copies_ ? workspace_.take<T>(kGateRows * in_.experts) : nullptr),
          tile_(workspace_, in_.k),
          choice_(workspace_, in_.experts) {}

    void run(std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; row += kGateRows) {
            run_tile(row, std::min(kGateRows, end - row));
        }
    }

  private:
    Workspace& reserved() const {
        Workspace& workspace = thread_workspace();
        workspace.reserve((copies_ ? Workspace::bytes_for<T>(kGateRows * in_.experts) : 0) +
                          GateTile<T>::bytes(in_.k) + RowChoice<T>::bytes(in_.experts));
        return workspace;
    }

    void run_tile(std::int64_t row, std::int64_t rows) {
        const T* const logits = in_.logits + row * in_.experts;
        if (rows < kGateRows) {
            std::fill_n(tile_.ids, in_.k * kGateRows, LaneId<T>(-1));
            std::fill_n(tile_.values, in_.k * kGateRows, T(0));
        }
        for (std::int64_t r = 0; r < rows && (copies_ || sums_); ++r) {
            prepare_row(row + r, r);
        }
        choose_experts(copies_ ? keys_ : logits, in_.experts, rows, in_.experts, in_.k, tile_,
                       choice_);
        if (in_.bias != nullptr) {
            for (std::int64_t i = 0; i < in_.k * kGateRows; ++i) {
                const auto id = tile_.ids[i];
                tile_.values[i] = id < 0 ? T(0) : logits[i % kGateRows * in_.experts + id];
            }
        }
        with_score(in_.score, [&](auto score) HWY_ATTR {
            score_chosen<decltype(score)>(tile_, in_.k, shares_of_chosen(in_),
                                          static_cast<T*>(nullptr));
        });
        if (in_.bias == nullptr && in_.order == GateOrder::score_then_topk) {
            order_ties();
        }
        write(row, rows);
    }

    // Other logits may have the same score; of equal scores the smaller id comes first.
    void order_ties() {
        const Lanes<T> d;
        const hn::RebindToSigned<Lanes<T>> di;
        const std::int64_t n = in_.k * kGateRows;
        auto wrong = hn::FirstN(d, 0);
        for (std::int64_t i = kGateRows; i < n; i += lane_count<T>()) {
            const auto equal =
                hn::Eq(hn::LoadU(d, tile_.values + i), hn::LoadU(d, tile_.values + i - kGateRows));
            const auto later =
                hn::Lt(hn::LoadU(di, tile_.ids + i), hn::LoadU(di, tile_.ids + i - kGateRows));
            wrong = hn::Or(wrong, hn::And(equal, hn::RebindMask(d, later)));
        }
        for (std::int64_t r = 0; r < kGateRows && !hn::AllFalse(d, wrong); ++r) {
            order_ties_of_row(tile_.values + r, tile_.ids + r);
        }
    }

    void order_ties_of_row(const T* values, LaneId<T>* ids) {
        for (std::int64_t j = 0, end = 0; j < in_.k; j = end) {
            tied_.clear();
            for (; end < in_.k && values[end * kGateRows] == values[j * kGateRows] &&
                   ids[end * kGateRows] >= 0;
                 ++end) {
                tied_.push_back(ids[end * kGateRows]);
            }
            if (tied_.empty()) {
                return;  // no more candidates
            }
            std::sort(tied_.begin(), tied_.end());
            for (const LaneId<T> id : tied_) {
                ids[j++ * kGateRows] = id;
            }
        }
    }

    // What the row's experts are chosen by, NaN for those that may not be, and sums over them.
    void prepare_row(std::int64_t row, std::int64_t r) {
        const std::int64_t n = in_.experts;
        const T* logits = in_.logits + row * n;
        T* const keys = keys_ + (copies_ ? r * n : 0);
        if (in_.mask != nullptr) {
            const std::uint8_t* const mask = in_.mask + row * in_.mask_stride;
            for (std::int64_t e = 0; e < n; ++e) {
                keys[e] = mask[e] != 0 ? logits[e] : std::numeric_limits<T>::quiet_NaN();
            }
            logits = keys;
        }
        if (sums_) {
            softmax_sums(logits, n, tile_.shift[r], tile_.total[r]);
        }
        if (in_.bias != nullptr) {
            with_score(in_.score, [&](auto score) HWY_ATTR {
                add_bias<decltype(score)>(logits, keys, tile_.shift[r], tile_.total[r]);
            });
        }
    }

    template <class Score>
    void add_bias(const T* logits, T* keys, T row_shift, T row_total) const {
        using M = SimdMath<Lanes<T>>;
        const Lanes<T> d;
        const auto shift = hn::Set(d, row_shift);
        const auto inverse = hn::Set(d, Score::kSumsOverExperts ? 1 / row_total : T(1));
        for (std::int64_t e = 0; e < in_.experts; e += lane_count<T>()) {
            const std::int64_t n = in_.experts - e;
            auto x = M::clamp_to_finite(load_part(d, logits + e, n));
            const auto bias = load_part(d, in_.bias + e, n);
            if (by_score_) {
                const auto s = Score::template apply<M>(x, shift);
                x = hn::IfThenElse(hn::IsNaN(x), x, hn::Mul(s, inverse));
            }
            store_part(hn::Add(x, bias), d, keys + e, n);
        }
    }

    void write(std::int64_t row, std::int64_t rows) {
        const Lanes<T> d;
        for (std::int64_t r = 0; r < kGateRows; r += lane_count<T>()) {
            const auto total = hn::LoadU(d, tile_.total + r);
            const auto factor = hn::IfThenElseZero(
                hn::Gt(total, hn::Zero(d)), hn::Div(hn::Set(d, static_cast<T>(in_.scale)), total));
            for (std::int64_t j = 0; j < in_.k; ++j) {
                T* const values = tile_.values + j * kGateRows + r;
                hn::StoreU(hn::Mul(hn::LoadU(d, values), factor), d, values);
            }
        }
        const auto in_rows = [&](auto number, auto k) HWY_ATTR {
            T* const weights = args_.weights + row * k;
            std::int64_t* const ids = args_.ids + row * k;
            for (std::int64_t r = 0; r < number; ++r) {
                for (std::int64_t j = 0; j < k; ++j) {
                    weights[r * k + j] = tile_.values[j * kGateRows + r];
                    ids[r * k + j] = tile_.ids[j * kGateRows + r];
                }
            }
        };
        // Known numbers become vector instructions.
        constexpr std::integral_constant<std::int64_t, kGateRows> kAll{};
        if (rows == kAll && in_.k == 1) {
            in_rows(kAll, std::integral_constant<std::int64_t, 1>());
        } else if (rows == kAll && in_.k == 2) {
            in_rows(kAll, std::integral_constant<std::int64_t, 2>());
        } else {
            in_rows(rows, in_.k);
        }
    }

    const ExpertGateArgs<T>& args_;
    const GateInputs<T>& in_;
    const bool by_score_;  // experts are chosen by scores that differ from logits in their order
    const bool sums_;      // sums over all experts are needed
    const bool copies_;    // experts are chosen by other numbers than the logits in memory
    Workspace& workspace_;
    T* const keys_;
    GateTile<T> tile_;
    RowChoice<T> choice_;
    std::vector<LaneId<T>> tied_;
};

template <class T>
void expert_gate(const ExpertGateArgs<T>& args) {
    const std::int64_t rows = args.inputs.rows;
    parallel_for((rows + kGateTaskRows - 1) / kGateTaskRows, [&](std::int64_t task) {
        const std::int64_t begin = task * kGateTaskRows;
        GateTask<T>(args).run(begin, std::min(rows, begin + kGateTaskRows));
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(expert_gate_cpu, expert_gate, ExpertGateArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
