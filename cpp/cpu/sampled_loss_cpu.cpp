// Losses of targets against sampled negatives on the CPU, for every target: scores, loss and all
// gradients in one pass over the rows, some of them at a time.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/sampled_loss_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/item_panels-inl.h"
#include "cpu/sampled_per_row-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Stores the sums of a panel.
template <class T>
struct StoreScoresOp : SumsFromZero<T> {
    HWY_INLINE StoreScoresOp part(std::int64_t) const { return *this; }
    template <int kVectors>
    HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                           const hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        for (int v = 0; v < kVectors; ++v) {
            hn::Store(acc[v], Lanes<T>(), to + row * kPanelItems<T> + v * kPackedLanes<T> + lane);
        }
    }
    T* to;
};

// Some rows that share their negatives, with sums of gradients of their own.
template <class T>
class SampledTask {
  public:
    SampledTask(const SampledLossArgs<T>& args, std::int64_t group, std::int64_t begin,
                std::int64_t end, T* dnegatives, T* dbias)
        : args_(args),
          ids_(args.negatives + group * args.n_negatives),
          group_(group),
          begin_(begin),
          n_panels_((args.n_negatives + kPanelItems<T> - 1) / kPanelItems<T>),
          stride_(padded_to_vectors<T>(args.dim)),
          dnegatives_(dnegatives),
          dbias_(dbias) {
        // Kept by the thread: a step would spend a tenth of its time on fresh pages.
        Workspace& workspace = thread_workspace();
        workspace.reserve(Workspace::bytes_for<T>(n_panels_ * kTile) +
                          2 * Workspace::bytes_for<T>(n_panels_ * kPanelItems<T>) +
                          Workspace::bytes_for<T>(kRowsPerTile * stride_));
        scores_ = workspace.take<T>(n_panels_ * kTile);
        adjust_ = workspace.take<T>(n_panels_ * kPanelItems<T>);
        activations_ = workspace.take<T>(n_panels_ * kPanelItems<T>);
        dhidden_ = workspace.take<T>(kRowsPerTile * stride_);
        for (std::int64_t r = begin; r < end; ++r) {
            hidden_.push_back(args.hidden + r * args.dim);
        }
    }

    void run() {
        const bool gradients = args_.row_grad != nullptr;
        const SampledRow<T> row(args_, group_, n_panels_ * kPanelItems<T>, adjust_, activations_);
        const DotSession session(dot_type(args_.precision));
        const HiddenTiles<T> hidden(hidden_, args_.dim, args_.precision, gradients);
        std::vector<ItemPanel<T>>& panels = panels_of_thread(gradients);
        for (std::int64_t p = 0; p < n_panels_; ++p) {
            load(panels[size(p)], p);
            if (gradients) {
                panels[size(p)].clear_item_gradient();
            }
        }

        for (std::int64_t tile = 0; tile < hidden.n_tiles(); ++tile) {
            const std::int64_t n = hidden.rows_in(tile), first = begin_ + tile * kRowsPerTile;
            for (std::int64_t p = 0; p < n_panels_; ++p) {
                panels[size(p)].scores(StoreScoresOp<T>{{}, scores(p)}, hidden, tile);
            }
            for (std::int64_t r = 0; r < n; ++r) {
                row.finish(first + r,
                           {scores(0) + r * kPanelItems<T>, n_panels_, kPanelItems<T>, kTile});
            }
            if (!gradients) {
                continue;
            }
            std::fill_n(dhidden_, kRowsPerTile * stride_, T(0));
            for (std::int64_t p = 0; p < n_panels_; ++p) {
                std::fill(scores(p) + n * kPanelItems<T>, scores(p) + kTile, T(0));
                const T* rows[kRowsPerTile];
                for (std::int64_t r = 0; r < n; ++r) {
                    rows[r] = scores(p) + r * kPanelItems<T>;
                }
                panels[size(p)].add_hidden_gradient(rows, n, dhidden_, stride_);
                panels[size(p)].add_item_gradient(scores(p), hidden, tile);
                add_bias(p, n);
            }
            for (std::int64_t r = 0; r < n; ++r) {
                row.finish_hidden(first + r, dhidden_ + r * stride_);
            }
        }
        if (gradients) {
            finish_negatives(panels);
        }
    }

  private:
    static constexpr std::int64_t kTile = kRowsPerTile * kPanelItems<T>;
    static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

    T* scores(std::int64_t panel) { return scores_ + panel * kTile; }

    // Room for the negatives, kept unless there are very many.
    std::vector<ItemPanel<T>>& panels_of_thread(bool gradients) const {
        thread_local std::vector<ItemPanel<T>> panels;
        constexpr std::size_t kMostKept = 256;
        if (!panels.empty() && (panels.size() > kMostKept ||
                                !panels.front().has_room(args_.dim, args_.precision, gradients))) {
            panels.clear();
        }
        while (panels.size() < size(n_panels_)) {
            panels.emplace_back(args_.dim, args_.precision, gradients);
        }
        return panels;
    }

    const T* vector(std::int64_t item) const { return args_.weight + item * args_.dim; }

    void load(ItemPanel<T>& items, std::int64_t panel) const {
        const std::int64_t first = panel * kPanelItems<T>;
        items.load(std::min(kPanelItems<T>, args_.n_negatives - first),
                   [&](std::int64_t i) { return vector(ids_[first + i]); });
    }

    void add_bias(std::int64_t panel, std::int64_t n) {
        const Lanes<T> d;
        const std::int64_t first = panel * kPanelItems<T>;
        const std::int64_t items = std::min(kPanelItems<T>, args_.n_negatives - first);
        for (std::int64_t i = 0; i < items; i += lane_count<T>()) {
            auto sum = load_part(d, dbias_ + first + i, items - i);
            for (std::int64_t r = 0; r < n; ++r) {
                sum = hn::Add(sum, hn::Load(d, scores(panel) + r * kPanelItems<T> + i));
            }
            store_part(sum, d, dbias_ + first + i, items - i);
        }
    }

    void finish_negatives(const std::vector<ItemPanel<T>>& panels) const {
        for (std::int64_t j = 0; j < args_.n_negatives; ++j) {
            panels[size(j / kPanelItems<T>)].copy_item_gradient(
                j % kPanelItems<T>, static_cast<T>(args_.scale), dnegatives_ + j * args_.dim);
        }
    }

    const SampledLossArgs<T>& args_;
    const std::int64_t* ids_;
    std::int64_t group_, begin_, n_panels_, stride_;
    T* dnegatives_;
    T* dbias_;
    T *scores_, *adjust_, *activations_, *dhidden_;
    std::vector<const T*> hidden_;
};

template <class T>
void sampled_loss(const SampledLossArgs<T>& args) {
    if (args.per_row) {
        const std::int64_t tasks = (args.rows + kSampledRowsPerTask - 1) / kSampledRowsPerTask;
        return parallel_for(tasks, [&](std::int64_t task) { PerRowTask<T>(args, task).run(); });
    }
    const bool gradients = args.row_grad != nullptr;
    const std::int64_t per_group =
        args.groups == 0 ? 0 : (args.rows + args.groups - 1) / args.groups;
    // Rows of one group in parts, with sums of their own, that do not depend on the threads.
    constexpr std::int64_t kMostParts = 8, kTilesPerPart = 4;
    const std::int64_t tiles = (args.rows + kRowsPerTile - 1) / kRowsPerTile;
    const std::int64_t parts =
        args.groups == 1 ? std::clamp<std::int64_t>(tiles / kTilesPerPart, 1, kMostParts) : 1;
    const std::int64_t width = args.n_negatives * args.dim;
    AlignedBuffer<T> sums(static_cast<std::size_t>(gradients ? (parts - 1) * width : 0));
    AlignedBuffer<T> bias_sums(
        static_cast<std::size_t>(gradients ? (parts - 1) * args.n_negatives : 0));
    bias_sums.fill_zero();
    if (gradients) {
        std::fill_n(args.dnegative_bias, args.groups * args.n_negatives, T(0));
        std::fill_n(args.dnegatives, args.groups * width, T(0));
    }
    parallel_for(args.groups * parts, [&](std::int64_t i) {
        const std::int64_t group = i / parts, part = i % parts;
        const std::int64_t first = std::min(args.rows, group * per_group);
        const std::int64_t last = std::min(args.rows, first + per_group);
        const std::int64_t begin = std::min(last, first + tiles * part / parts * kRowsPerTile);
        const std::int64_t end =
            part + 1 == parts ? last
                              : std::min(last, first + tiles * (part + 1) / parts * kRowsPerTile);
        T* dnegatives = nullptr;
        T* dbias = nullptr;
        if (gradients) {
            dnegatives =
                part == 0 ? args.dnegatives + group * width : sums.data() + (part - 1) * width;
            dbias = part == 0 ? args.dnegative_bias + group * args.n_negatives
                              : bias_sums.data() + (part - 1) * args.n_negatives;
        }
        SampledTask<T>(args, group, begin, end, dnegatives, dbias).run();
    });
    for (std::int64_t part = 1; gradients && part < parts; ++part) {
        for (std::int64_t i = 0; i < width; ++i) {
            args.dnegatives[i] += sums.data()[(part - 1) * width + i];
        }
        for (std::int64_t i = 0; i < args.n_negatives; ++i) {
            args.dnegative_bias[i] += bias_sums.data()[(part - 1) * args.n_negatives + i];
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(sampled_loss_cpu, sampled_loss, SampledLossArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
