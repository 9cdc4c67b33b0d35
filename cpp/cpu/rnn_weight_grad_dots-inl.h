// Weight gradients in bfloat16: pairs of neighbouring events are the words of the dot-product back
// ends. The inputs are their rows, so that the fewer numbers are transposed, and the gates their
// columns; the sums therefore lie as (width, gates) until the end.

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

// Sums of the gates [begin, begin + n_gates) over a range of events.
class WeightGradDots {
  public:
    WeightGradDots(const RnnWeightGradArgs<float>& args, std::int64_t begin, std::int64_t n_gates)
        : args_(args),
          begin_(begin),
          n_gates_(n_gates),
          width_(args.width),
          columns_(padded_to_vectors<float>(n_gates)),
          max_words_(padded_to_dot_tiles((std::min(kEvents, args.events) + 1) / 2)) {
        constexpr std::int64_t kTile = kDotTile * kDotTile;
        const std::int64_t padded_width = padded_to_dot_tiles(width_);
        const std::int64_t n_sums = padded_width * kMaxPanelVectors * kPackedLanes<float>;
        Workspace& workspace = dot_workspace();
        workspace.reserve(Workspace::bytes_for<std::uint32_t>(padded_width * max_words_) +
                          Workspace::bytes_for<std::uint32_t>(kDotTile * padded_width) +
                          Workspace::bytes_for<std::uint32_t>(columns_ + kTile) +
                          Workspace::bytes_for<float>(n_sums) +
                          Workspace::bytes_for<float>(width_ * columns_));
        rows_ = workspace.take<std::uint32_t>(padded_width * max_words_);
        tile_ = workspace.take<std::uint32_t>(kDotTile * padded_width);
        pair_ = workspace.take<std::uint32_t>(columns_ + kTile);
        sums_ = workspace.take<float>(n_sums);
        total_ = workspace.take<float>(width_ * columns_);
        std::fill_n(total_, width_ * columns_, 0.0F);
    }

    void run() {
        for (std::int64_t event = 0; event < args_.events; event += kEvents) {
            const std::int64_t n = std::min(kEvents, args_.events - event);
            fill_rows(event, n);
            fill_panels(event, n);
            add_products((n + 1) / 2);
        }
        store();
    }

  private:
    // Events of one pass: as many as leave the words of all inputs in L2, so that the sums are
    // seldom added up.
    static constexpr std::int64_t kEvents = 512;

    // rows_[i][word] = input i of a pair of events.
    void fill_rows(std::int64_t event, std::int64_t n) {
        words_ = padded_to_dot_tiles((n + 1) / 2);
        const std::int64_t padded_width = padded_to_dot_tiles(width_);
        for (std::int64_t word0 = 0; word0 < words_; word0 += kDotTile) {
            for (std::int64_t w = 0; w < kDotTile; ++w) {
                const std::int64_t k = 2 * (word0 + w);
                std::uint32_t* to = tile_ + w * padded_width;
                if (k >= n) {
                    std::fill_n(to, padded_width, 0U);
                    continue;
                }
                const float* second = k + 1 < n ? args_.inputs[event + k + 1] : nullptr;
                pair_to_bfloat16(args_.inputs[event + k], second, width_, to);
            }
            for (std::int64_t i = 0; i < width_; ++i) {
                std::uint32_t* to = rows_ + i * words_ + word0;
                for (std::int64_t w = 0; w < kDotTile; ++w) {
                    to[w] = tile_[w * padded_width + i];
                }
            }
        }
    }

    void fill_panels(std::int64_t event, std::int64_t n) {
        if (panels_.depth() != words_) {
            panels_ = PackedPanels<std::uint32_t>(n_gates_, words_, kMaxPanelVectors);
        }
        for (std::int64_t word = 0; word < words_; ++word) {
            const std::int64_t k = 2 * word;
            const float* first = args_.gates + (event + k) * args_.gates_stride + begin_;
            if (k < n) {
                pair_to_bfloat16(first, k + 1 < n ? first + args_.gates_stride : nullptr, n_gates_,
                                 pair_);
            }
            panels_.fill_term(word, pair_, k < n ? n_gates_ : 0);
        }
    }

    void add_products(std::int64_t depth) {
        for (std::int64_t p = 0; p < panels_.n_panels(); ++p) {
            const std::int64_t vectors = panels_.vectors_in(p);
            const std::int64_t panel_width = vectors * kPackedLanes<float>;
            DotSession::current().multiply(
                {rows_, width_, panels_.panel(p), 1, depth, words_, vectors, nullptr, sums_});
            for (std::int64_t i = 0; i < width_; ++i) {
                const float* from = sums_ + i * panel_width;
                float* to = total_ + i * columns_ + p * kMaxPanelVectors * kPackedLanes<float>;
                for (std::int64_t j = 0; j < panel_width; ++j) {
                    to[j] += from[j];
                }
            }
        }
    }

    // weight = the transposed total, or more by it.
    void store() const {
        for (std::int64_t gate0 = 0; gate0 < n_gates_; gate0 += kDotTile) {
            const std::int64_t end = std::min(gate0 + kDotTile, n_gates_);
            for (std::int64_t i = 0; i < width_; ++i) {
                for (std::int64_t gate = gate0; gate < end; ++gate) {
                    float& sum = args_.weight[args_.gate_of(begin_ + gate) * width_ + i];
                    sum = (args_.add ? sum : 0.0F) + total_[i * columns_ + gate];
                }
            }
        }
    }

    const RnnWeightGradArgs<float>& args_;
    const std::int64_t begin_, n_gates_, width_, columns_, max_words_;
    std::int64_t words_ = 0;  // of the pass, padded
    std::uint32_t *rows_, *tile_, *pair_;
    float *sums_, *total_;
    PackedPanels<std::uint32_t> panels_;
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
