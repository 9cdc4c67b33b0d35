// Weight gradients in bfloat16: pairs of neighbouring events are the words of the dot-product back
// ends. The gates are their rows and the inputs their columns, so that sums lie as the weights do.

// Per-target include guard
#if defined(SEQREC_CPU_RNN_WEIGHT_GRAD_DOTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_RNN_WEIGHT_GRAD_DOTS_INL_H_
#undef SEQREC_CPU_RNN_WEIGHT_GRAD_DOTS_INL_H_
#else
#define SEQREC_CPU_RNN_WEIGHT_GRAD_DOTS_INL_H_
#endif

#include <algorithm>

#include "cpu/bfloat16_pairs-inl.h"
#include "cpu/rnn_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Sums of the gates [begin, begin + n_gates) over all events, a pass of events at a time, so that
// what a pass reads stays in L2.
class WeightGradDots {
  public:
    WeightGradDots(const RnnWeightGradArgs<float>& args, std::int64_t begin, std::int64_t n_gates)
        : args_(args), begin_(begin), n_gates_(n_gates), width_(args.width) {
        const std::int64_t padded_width = padded_to_vectors<float>(width_);
        const std::int64_t padded_gates = padded_to_vectors<float>(n_gates);
        Workspace& workspace = dot_workspace();
        workspace.reserve(
            Workspace::bytes_for<std::uint32_t>(padded_gates * kWords) +
            Workspace::bytes_for<std::uint32_t>(kDotTile * padded_gates) +
            Workspace::bytes_for<std::uint32_t>(padded_width) +
            Workspace::bytes_for<float>(kGatesAtOnce * kMaxPanelVectors * kPackedLanes<float>));
        rows_ = workspace.take<std::uint32_t>(padded_gates * kWords);
        tile_ = workspace.take<std::uint32_t>(kDotTile * padded_gates);
        pair_ = workspace.take<std::uint32_t>(padded_width);
        sums_ = workspace.take<float>(kGatesAtOnce * kMaxPanelVectors * kPackedLanes<float>);
        for (std::int64_t w = 0; w < kDotTile; ++w) {
            tile_rows_[w] = reinterpret_cast<const float*>(tile_ + w * padded_gates);
        }
    }

    void run() {
        bool add = args_.add;
        for (std::int64_t event = 0; event < args_.events; event += kEvents) {
            const std::int64_t n = std::min(kEvents, args_.events - event);
            words_ = padded_to_dot_tiles((n + 1) / 2);
            fill_rows(event, n);
            fill_panels(event, n);
            multiply((n + 1) / 2, add);
            add = true;
        }
    }

  private:
    static constexpr std::int64_t kEvents = weight_grad_events(Precision::bfloat16);
    static constexpr std::int64_t kWords = kEvents / 2;
    static constexpr std::int64_t kGatesAtOnce = 64;  // their sums stay in L1
    static constexpr std::int64_t kAhead = 16;        // events whose inputs are asked for

    // rows_[i][word] = gate i of a pair of events.
    void fill_rows(std::int64_t event, std::int64_t n) {
        const std::int64_t padded_gates = padded_to_vectors<float>(n_gates_);
        for (std::int64_t word0 = 0; word0 < words_; word0 += kDotTile) {
            for (std::int64_t w = 0; w < kDotTile; ++w) {
                const std::int64_t k = 2 * (word0 + w);
                std::uint32_t* to = tile_ + w * padded_gates;
                const float* first = args_.gates + (event + k) * args_.gates_stride + begin_;
                if (k < n) {
                    pair_to_bfloat16(first, k + 1 < n ? first + args_.gates_stride : nullptr,
                                     n_gates_, to);
                } else {
                    std::fill_n(to, n_gates_, 0U);
                }
            }
            // Their bits only move.
            transpose_cpu<float>(
                {tile_rows_, kDotTile, n_gates_, reinterpret_cast<float*>(rows_) + word0, words_});
        }
    }

    void fill_panels(std::int64_t event, std::int64_t n) {
        if (panels_.depth() != words_) {
            panels_ = PackedPanels<std::uint32_t>(width_, words_, kMaxPanelVectors);
        }
        for (std::int64_t word = 0; word < words_; ++word) {
            const std::int64_t k = 2 * word;
            // Rows of a large matrix, in an order that the processor does not foresee.
            fetch_row(event + k + kAhead);
            fetch_row(event + k + kAhead + 1);
            if (k < n) {
                pair_to_bfloat16(args_.inputs[event + k],
                                 k + 1 < n ? args_.inputs[event + k + 1] : nullptr, width_, pair_);
            }
            panels_.fill_term(word, pair_, k < n ? width_ : 0);
        }
    }

    void fetch_row(std::int64_t event) const {
        for (std::int64_t i = 0; i < width_ && event < args_.events; i += kPackedLanes<float>) {
            __builtin_prefetch(args_.inputs[event] + i, 0, 2);
        }
    }

    void multiply(std::int64_t depth, bool add) const {
        for (std::int64_t p = 0; p < panels_.n_panels(); ++p) {
            const std::int64_t vectors = panels_.vectors_in(p);
            for (std::int64_t gate = 0; gate < n_gates_; gate += kGatesAtOnce) {
                const std::int64_t n = std::min(kGatesAtOnce, n_gates_ - gate);
                DotSession::current().multiply({rows_ + gate * words_, n, panels_.panel(p), 1,
                                                depth, words_, vectors, nullptr, sums_});
                store(gate, n, p * kMaxPanelVectors, vectors, add);
            }
        }
    }

    // weight = the sums of `n` gates and of vectors of inputs, or more by them.
    void store(std::int64_t gate0, std::int64_t n, std::int64_t vector0, std::int64_t vectors,
               bool add) const {
        const Lanes<float> d;
        const std::int64_t first = vector0 * kPackedLanes<float>;
        const std::int64_t columns = std::min(vectors * kPackedLanes<float>, width_ - first);
        for (std::int64_t i = 0; i < n; ++i) {
            const float* from = sums_ + i * vectors * kPackedLanes<float>;
            float* to = args_.weight + args_.gate_of(begin_ + gate0 + i) * width_ + first;
            for (std::int64_t j = 0; j < columns; j += lane_count<float>()) {
                const auto sum = hn::LoadU(d, from + j);
                const std::int64_t left = columns - j;
                store_part(add ? hn::Add(load_part(d, to + j, left), sum) : sum, d, to + j, left);
            }
        }
    }

    const RnnWeightGradArgs<float>& args_;
    const std::int64_t begin_, n_gates_, width_;
    std::int64_t words_ = 0;  // of the pass, padded
    std::uint32_t *rows_, *tile_, *pair_;
    const float* tile_rows_[kDotTile];
    float* sums_;
    PackedPanels<std::uint32_t> panels_;
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
