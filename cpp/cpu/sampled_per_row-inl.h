// Sampled losses of rows with a set of negatives each: nothing is used twice, so nothing is packed.
// The vectors of a row's negatives are read from the table for its scores, and while they are in
// the cache once more for the gradient of hidden. The gradient of a negative is its derivative
// times the row of hidden, so that it need not be written down.

// Per-target include guard
#if defined(SEQREC_CPU_SAMPLED_PER_ROW_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_SAMPLED_PER_ROW_INL_H_
#undef SEQREC_CPU_SAMPLED_PER_ROW_INL_H_
#else
#define SEQREC_CPU_SAMPLED_PER_ROW_INL_H_
#endif

#include "base/workspace.h"
#include "cpu/packed_panels.h"
#include "cpu/sampled_row-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Rows of one task.
constexpr std::int64_t kSampledRowsPerTask = 8;

template <class T>
class PerRowTask {
  public:
    PerRowTask(const SampledLossArgs<T>& args, std::int64_t task)
        : args_(args),
          begin_(task * kSampledRowsPerTask),
          end_(std::min(args.rows, begin_ + kSampledRowsPerTask)),
          padded_(padded_to_vectors<T>(args.n_negatives)) {
        Workspace& workspace = thread_workspace();
        workspace.reserve(3 * Workspace::bytes_for<T>(padded_) + Workspace::bytes_for<T>(args.dim));
        scores_ = workspace.take<T>(padded_);
        adjust_ = workspace.take<T>(padded_);
        activations_ = workspace.take<T>(padded_);
        dhidden_ = workspace.take<T>(args.dim);
    }

    void run() {
        for (std::int64_t r = begin_; r < end_; ++r) {
            const SampledRow<T> row(args_, r, padded_, adjust_, activations_);
            multiply(row.ids(), args_.hidden + r * args_.dim);
            row.finish(r, {scores_, 1, padded_, padded_});
            if (args_.row_grad != nullptr) {
                add_vectors(row.ids());
                row.finish_hidden(r, dhidden_);
                std::copy_n(scores_, args_.n_negatives,
                            args_.dnegative_bias + r * args_.n_negatives);
            }
        }
    }

  private:
    const T* vector(std::int64_t item) const { return args_.weight + item * args_.dim; }

    // scores = hidden . the negatives' vectors.
    void multiply(const std::int64_t* ids, const T* hidden) const {
        constexpr std::int64_t kAtOnce = 4, kAhead = 12;
        const std::int64_t n = args_.n_negatives, dim = args_.dim;
        std::int64_t j = 0;
        for (; j + kAtOnce <= n; j += kAtOnce) {
            // Vectors lie anywhere in a large table.
            for (std::int64_t i = j + kAhead; i < std::min(n, j + kAhead + kAtOnce); ++i) {
                for (std::int64_t k = 0; k < dim; k += kPackedLanes<T>) {
                    __builtin_prefetch(vector(ids[i]) + k);
                }
            }
            multiply_four(ids + j, hidden, scores_ + j);
        }
        for (; j < n; ++j) {
            scores_[j] = dot(hidden, vector(ids[j]), dim);
        }
        std::fill(scores_ + n, scores_ + padded_, T(0));
    }

    // As `dot`, in its order.
    HWY_INLINE void multiply_four(const std::int64_t* ids, const T* hidden, T* to) const {
        const Lanes<T> d;
        const T* const rows[4] = {vector(ids[0]), vector(ids[1]), vector(ids[2]), vector(ids[3])};
        auto sum0 = hn::Zero(d), sum1 = sum0, sum2 = sum0, sum3 = sum0;
        const auto add = [&](auto load, std::int64_t k) {
            const auto h = load(hidden + k);
            sum0 = hn::MulAdd(h, load(rows[0] + k), sum0);
            sum1 = hn::MulAdd(h, load(rows[1] + k), sum1);
            sum2 = hn::MulAdd(h, load(rows[2] + k), sum2);
            sum3 = hn::MulAdd(h, load(rows[3] + k), sum3);
        };
        std::int64_t k = 0;
        for (; k + lane_count<T>() <= args_.dim; k += lane_count<T>()) {
            add([&](const T* from) { return hn::LoadU(d, from); }, k);
        }
        if (k < args_.dim) {
            const std::int64_t rest = args_.dim - k;
            add([&](const T* from) { return load_part(d, from, rest); }, k);
        }
        to[0] = hn::GetLane(hn::SumOfLanes(d, sum0));
        to[1] = hn::GetLane(hn::SumOfLanes(d, sum1));
        to[2] = hn::GetLane(hn::SumOfLanes(d, sum2));
        to[3] = hn::GetLane(hn::SumOfLanes(d, sum3));
    }

    // dhidden = the sum of the negatives' vectors times the derivatives, in their order.
    void add_vectors(const std::int64_t* ids) const {
        constexpr std::int64_t kVectors = 4;
        std::int64_t k = 0;
        for (; k + kVectors * lane_count<T>() <= args_.dim; k += kVectors * lane_count<T>()) {
            add_columns<kVectors>(ids, k);
        }
        for (; k < args_.dim; k += lane_count<T>()) {
            add_columns<1>(ids, k);
        }
    }

    template <int kVectors>
    HWY_INLINE void add_columns(const std::int64_t* ids, std::int64_t k) const {
        const Lanes<T> d;
        hn::Vec<Lanes<T>> sums[kVectors];
        for (auto& sum : sums) {
            sum = hn::Zero(d);
        }
        const std::int64_t n = args_.dim - k;
        for (std::int64_t j = 0; j < args_.n_negatives; ++j) {
            const auto derivative = hn::Set(d, scores_[j]);
            const T* const from = vector(ids[j]) + k;
            for (int v = 0; v < kVectors; ++v) {
                const auto part =
                    kVectors > 1 ? hn::LoadU(d, from + v * lane_count<T>()) : load_part(d, from, n);
                sums[v] = hn::MulAdd(derivative, part, sums[v]);
            }
        }
        for (int v = 0; v < kVectors; ++v) {
            store_part(sums[v], d, dhidden_ + k + v * lane_count<T>(), n - v * lane_count<T>());
        }
    }

    const SampledLossArgs<T>& args_;
    std::int64_t begin_, end_, padded_;
    T *scores_, *adjust_, *activations_, *dhidden_;
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
