// Gradients of the expert gate's logits on the CPU, for every target. Scores of the chosen are
// computed anew, so nothing but inputs and ids has to be kept.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/gate_backward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/gate_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
class GateGradTask {
  public:
    explicit GateGradTask(const ExpertGateGradArgs<T>& args)
        : args_(args),
          in_(args.inputs),
          dense_(in_.score == GateScore::softmax && !shares_of_chosen(in_)),
          workspace_(reserved()),
          row_(workspace_.take<T>(in_.experts)),
          slopes_(workspace_.take<T>(in_.k * kGateRows)),
          tile_(workspace_, in_.k) {}

    void run(std::int64_t begin, std::int64_t end) {
        for (std::int64_t row = begin; row < end; row += kGateRows) {
            run_tile(row, std::min(kGateRows, end - row));
        }
    }

  private:
    Workspace& reserved() const {
        Workspace& workspace = thread_workspace();
        workspace.reserve(GateTile<T>::bytes(in_.k) + Workspace::bytes_for<T>(in_.experts) +
                          Workspace::bytes_for<T>(in_.k * kGateRows));
        return workspace;
    }

    void run_tile(std::int64_t row, std::int64_t rows) {
        gather(row, rows);
        for (std::int64_t r = 0; r < rows && dense_; ++r) {
            softmax_sums(candidates(row + r), in_.experts, tile_.shift[r], tile_.total[r]);
        }
        with_score(in_.score, [&](auto score) HWY_ATTR {
            score_chosen<decltype(score)>(tile_, in_.k, shares_of_chosen(in_), slopes_);
        });
        T* const dlogits = args_.dlogits + row * in_.experts;
        if (!dense_) {
            std::fill_n(dlogits, rows * in_.experts, T(0));
        }
        for (std::int64_t r = 0; r < rows; ++r) {
            write_row(row + r, r, dlogits + r * in_.experts);
        }
    }

    // Ids, logits and gradients of the chosen, slot by slot.
    void gather(std::int64_t row, std::int64_t rows) {
        const std::int64_t k = in_.k;
        for (std::int64_t r = 0; r < kGateRows; ++r) {
            for (std::int64_t j = 0; j < k; ++j) {
                const std::int64_t from = (row + r) * k + j, to = j * kGateRows + r;
                const std::int64_t id = r < rows ? args_.ids[from] : -1;
                tile_.ids[to] = static_cast<LaneId<T>>(id);
                tile_.values[to] = id < 0 ? T(0) : in_.logits[(row + r) * in_.experts + id];
                tile_.factors[to] = id < 0 ? T(0) : args_.dweights[from];
            }
        }
    }

    // A row of logits, NaN where the mask forbids the expert.
    const T* candidates(std::int64_t row) {
        const T* const logits = in_.logits + row * in_.experts;
        if (in_.mask == nullptr) {
            return logits;
        }
        const std::uint8_t* const mask = in_.mask + row * in_.mask_stride;
        for (std::int64_t e = 0; e < in_.experts; ++e) {
            row_[e] = mask[e] != 0 ? logits[e] : std::numeric_limits<T>::quiet_NaN();
        }
        return row_;
    }

    // With s the scores, t what divides them and g the gradients of the weights:
    //     shares of their sum   scale / t ds_j (g_j - sum(s_i g_i) / t)
    //     softmax over all      the same, where g is 0 for experts that are not chosen
    //     neither               scale ds_j g_j
    void write_row(std::int64_t row, std::int64_t r, T* dlogits) {
        const T total = tile_.total[r];
        if (!(total > 0)) {
            std::fill_n(dlogits, dense_ ? in_.experts : 0, T(0));
            return;
        }
        T mean = 0;
        if (dense_ || shares_of_chosen(in_)) {
            for (std::int64_t j = 0; j < in_.k; ++j) {
                mean += tile_.values[j * kGateRows + r] * tile_.factors[j * kGateRows + r];
            }
            mean /= total;
        }
        const T factor = static_cast<T>(in_.scale) / total;
        if (dense_) {
            spread(candidates(row), tile_.shift[r], -mean * factor, dlogits);
        }
        for (std::int64_t j = 0; j < in_.k; ++j) {
            const std::int64_t at = j * kGateRows + r;
            if (tile_.ids[at] >= 0) {
                const T own = tile_.factors[at] - (dense_ ? T(0) : mean);
                dlogits[tile_.ids[at]] += factor * slopes_[at] * own;
            }
        }
    }

    // What all candidates get of a softmax.
    void spread(const T* logits, T row_shift, T factor, T* dlogits) const {
        using M = SimdMath<Lanes<T>>;
        const Lanes<T> d;
        const auto shift = hn::Set(d, row_shift), scale = hn::Set(d, factor);
        for (std::int64_t e = 0; e < in_.experts; e += lane_count<T>()) {
            const std::int64_t n = in_.experts - e;
            const auto x = M::clamp_to_finite(load_candidates(d, logits + e, n));
            const auto s = hn::Mul(scale, SoftmaxScore::apply<M>(x, shift));
            store_part(hn::IfThenZeroElse(hn::IsNaN(x), s), d, dlogits + e, n);
        }
    }

    const ExpertGateGradArgs<T>& args_;
    const GateInputs<T>& in_;
    const bool dense_;  // every expert gets a gradient
    Workspace& workspace_;
    T* const row_;
    T* const slopes_;
    GateTile<T> tile_;
};

template <class T>
void expert_gate_grad(const ExpertGateGradArgs<T>& args) {
    const std::int64_t rows = args.inputs.rows;
    parallel_for((rows + kGateTaskRows - 1) / kGateTaskRows, [&](std::int64_t task) {
        const std::int64_t begin = task * kGateTaskRows;
        GateGradTask<T>(args).run(begin, std::min(rows, begin + kGateTaskRows));
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(expert_gate_grad_cpu, expert_gate_grad, ExpertGateGradArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
