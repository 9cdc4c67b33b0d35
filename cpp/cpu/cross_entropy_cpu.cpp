// Softmax cross-entropy over a whole item table on the CPU, for every target, panel by panel: the
// (rows, items) matrix of logits never exists, and backward computes it anew.
//
// Items are cut into parts that do not depend on the number of threads; each part has sums of its
// own, which are added in the order of the parts, so that results have the same bits on any number.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/cross_entropy_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <cmath>
#include <limits>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cells/soft_cap-inl.h"
#include "cpu/cross_entropy_kernels.h"
#include "cpu/item_panels-inl.h"
#include "cpu/row_update-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Logits from the sums of a panel's products.
template <class T>
struct PanelLogits {
    using D = Lanes<T>;
    using V = hn::Vec<D>;
    using M = SimdMath<D>;

    PanelLogits(const CrossEntropyArgs<T>& args, std::int64_t panel)
        : first(panel * kPanelItems<T>),
          n_items(std::min(kPanelItems<T>, args.items - first)),
          scale(static_cast<T>(args.scale)),
          cap(static_cast<T>(args.softcap)) {
        for (std::int64_t i = 0; i < kPanelItems<T>; ++i) {
            bias[i] = args.bias == nullptr || i >= n_items ? T(0) : args.bias[first + i];
        }
    }

    HWY_INLINE V capped(V sum, std::int64_t at) const {
        const D d;
        const V x = hn::MulAdd(hn::Set(d, scale), sum, hn::LoadU(d, bias + at));
        return cap == 0 ? x : SoftCap::apply<M>(x, hn::Set(d, cap));
    }
    // dlogit/dx of the soft cap.
    HWY_INLINE V cap_gradient(V logit) const { return SoftCap::grad<M>(logit, hn::Set(D(), cap)); }
    // Which lanes of the vector that begins at item `at` of the panel are items.
    HWY_INLINE hn::Mask<D> is_item(std::int64_t at) const {
        const std::int64_t n = std::clamp<std::int64_t>(n_items - at, 0, lane_count<T>());
        return hn::FirstN(D(), static_cast<std::size_t>(n));
    }
    HWY_INLINE bool is_full() const { return n_items == kPanelItems<T>; }

    std::int64_t first, n_items;
    T scale, cap;
    alignas(kCacheLine) T bias[kPanelItems<T>];
};

// What the logits of a row have come to so far.
template <class T>
struct RowSums {
    T largest, target_logit;
    double sum;                                    // of exp(logit - largest)
    double logits;                                 // their sum
    alignas(kCacheLine) T lanes[kPackedLanes<T>];  // not yet in `sum`, of the same
    alignas(kCacheLine) T logit_lanes[kPackedLanes<T>];

    void clear() {
        largest = std::numeric_limits<T>::lowest();
        target_logit = 0;
        sum = logits = 0;
        std::fill_n(lanes, kPackedLanes<T>, T(0));
        std::fill_n(logit_lanes, kPackedLanes<T>, T(0));
    }
    void gather() {
        for (std::int64_t i = 0; i < kPackedLanes<T>; ++i) {
            sum += static_cast<double>(std::exchange(lanes[i], T(0)));
            logits += static_cast<double>(std::exchange(logit_lanes[i], T(0)));
        }
    }
    void rescale(T now) {
        const double factor = std::exp(static_cast<double>(largest) - static_cast<double>(now));
        gather();
        sum *= factor;
        largest = now;
    }
};

template <class T>
struct LogSumOp {
    using D = Lanes<T>;
    using V = hn::Vec<D>;
    using M = SimdMath<D>;

    struct Part : SumsFromZero<T> {
        template <int kVectors>
        HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                               const V (&acc)[kVectors]) const {
            const D d;
            RowSums<T>& sums = rows[row];
            V logit[kVectors];
            V largest = hn::Set(d, std::numeric_limits<T>::lowest());
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t at = v * kPackedLanes<T> + lane;
                logit[v] = logits.capped(acc[v], at);
                if (with_sum) {
                    T* lanes = sums.logit_lanes + lane;
                    const V counted = hn::IfThenElseZero(logits.is_item(at), logit[v]);
                    hn::Store(hn::Add(hn::Load(d, lanes), counted), d, lanes);
                }
                if (HWY_UNLIKELY(!logits.is_full())) {
                    const V none = hn::Set(d, -std::numeric_limits<T>::infinity());
                    logit[v] = hn::IfThenElse(logits.is_item(at), logit[v], none);
                }
                largest = hn::Max(largest, logit[v]);
                // Computed with all the others, so that it has their rounding.
                const std::int64_t place = target[row] - logits.first - at;
                if (HWY_UNLIKELY(place >= 0 && place < lane_count<T>())) {
                    sums.target_logit = hn::ExtractLane(logit[v], static_cast<std::size_t>(place));
                }
            }
            if (!hn::AllFalse(d, hn::Gt(largest, hn::Set(d, sums.largest)))) {
                sums.rescale(hn::GetLane(hn::MaxOfLanes(d, largest)));
            }
            V sum = hn::Load(d, sums.lanes + lane);
            for (int v = 0; v < kVectors; ++v) {
                sum = hn::Add(sum, M::exp_of_negative(hn::Sub(logit[v], hn::Set(d, sums.largest))));
            }
            hn::Store(sum, d, sums.lanes + lane);
        }

        const PanelLogits<T>& logits;
        const std::int64_t* target;
        RowSums<T>* rows;
        bool with_sum;
    };
    HWY_INLINE Part part(std::int64_t) const { return {{}, logits, target, rows, with_sum}; }

    const PanelLogits<T>& logits;
    const std::int64_t* target;  // of the tile's rows, as `rows`
    RowSums<T>* rows;
    bool with_sum;  // of the logits
};

// dloss/d(scale * hidden . weight + bias), into (rows, kPanelItems).
template <class T>
struct LogitGradOp {
    using D = Lanes<T>;
    using V = hn::Vec<D>;
    using M = SimdMath<D>;

    struct Part : SumsFromZero<T> {
        template <int kVectors>
        HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                               const V (&acc)[kVectors]) const {
            const D d;
            const V log_sum = hn::Set(d, op.log_sum[row]);
            const V row_grad = hn::Set(d, op.row_grad[row]);
            const V evenly = hn::Set(d, op.evenly);
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t at = v * kPackedLanes<T> + lane;
                const V logit = op.logits.capped(acc[v], at);
                V grad = hn::Sub(M::exp_of_negative(hn::Sub(logit, log_sum)), evenly);
                const std::int64_t place = op.target[row] - op.logits.first - at;
                if (HWY_UNLIKELY(place >= 0 && place < lane_count<T>())) {
                    const auto lanes = hn::Iota(d, 0);
                    const auto is_target = hn::Eq(lanes, hn::Set(d, static_cast<T>(place)));
                    grad = hn::Sub(grad, hn::IfThenElseZero(is_target, hn::Set(d, op.own)));
                }
                grad = hn::Mul(grad, row_grad);
                if (op.logits.cap != 0) {
                    grad = hn::Mul(grad, op.logits.cap_gradient(logit));
                }
                if (HWY_UNLIKELY(!op.logits.is_full())) {
                    grad = hn::IfThenElseZero(op.logits.is_item(at), grad);
                }
                hn::Store(grad, d, op.out + row * kPanelItems<T> + at);
            }
        }

        const LogitGradOp& op;
    };
    HWY_INLINE Part part(std::int64_t) const { return {{}, *this}; }

    const PanelLogits<T>& logits;
    const std::int64_t* target;
    const T* log_sum;
    const T* row_grad;
    T evenly, own;  // the smoothed target: every item's share, and what the target has beyond it
    T* out;
};

// The rows that have a target, and what belongs to them.
template <class T>
struct TargetRows {
    explicit TargetRows(const CrossEntropyArgs<T>& args) {
        for (std::int64_t r = 0; r < args.rows; ++r) {
            if (args.target[r] >= 0) {
                number.push_back(r);
                hidden.push_back(args.hidden + r * args.dim);
                target.push_back(args.target[r]);
            }
        }
    }
    std::vector<std::int64_t> number, target;
    std::vector<const T*> hidden;
};

template <class T>
std::int64_t panel_count(const CrossEntropyArgs<T>& args) {
    return (args.items + kPanelItems<T> - 1) / kPanelItems<T>;
}

// Parts of the table: as many as sums of `bytes_per_part` have room for.
inline std::int64_t part_count(std::int64_t panels, std::int64_t bytes_per_part) {
    constexpr std::int64_t kRoom = std::int64_t{32} << 20, kLeast = 2, kMost = 16;
    const std::int64_t parts = kRoom / std::max<std::int64_t>(1, bytes_per_part);
    return std::min(panels, std::clamp(parts, kLeast, kMost));
}

template <class T>
void cross_entropy_forward(const CrossEntropyArgs<T>& args) {
    std::fill_n(args.loss, args.rows, T(0));
    std::fill_n(args.log_sum, args.rows, T(0));
    const TargetRows<T> rows(args);
    const auto n = static_cast<std::int64_t>(rows.hidden.size());
    if (n == 0) {
        return;
    }
    const HiddenTiles<T> hidden(rows.hidden, args.dim, args.precision, false);
    const std::int64_t panels = panel_count(args);
    const auto bytes = static_cast<std::int64_t>(sizeof(RowSums<T>));
    const std::int64_t parts = part_count(panels, n * bytes);
    AlignedBuffer<RowSums<T>> sums(static_cast<std::size_t>(parts * n));
    parallel_for(parts, [&](std::int64_t part) {
        const DotSession session(dot_type(args.precision));
        RowSums<T>* const part_sums = sums.data() + part * n;
        std::for_each(part_sums, part_sums + n, [](RowSums<T>& row) { row.clear(); });
        ItemPanel<T> items(args.dim, args.precision, false);
        const std::int64_t end = panels * (part + 1) / parts;
        for (std::int64_t panel = panels * part / parts; panel < end; ++panel) {
            const PanelLogits<T> logits(args, panel);
            items.load(logits.n_items,
                       [&](std::int64_t i) { return args.weight + (logits.first + i) * args.dim; });
            for (std::int64_t tile = 0; tile < hidden.n_tiles(); ++tile) {
                const std::int64_t row = tile * kRowsPerTile;
                items.scores(LogSumOp<T>{logits, rows.target.data() + row, part_sums + row,
                                         args.label_smoothing > 0},
                             hidden, tile);
            }
        }
        std::for_each(part_sums, part_sums + n, [](RowSums<T>& row) { row.gather(); });
    });
    for (std::int64_t r = 0; r < n; ++r) {
        double largest = -std::numeric_limits<double>::infinity(), sum = 0, logits = 0;
        double target_logit = 0;
        for (std::int64_t part = 0; part < parts; ++part) {
            largest = std::max(largest, static_cast<double>(sums.data()[part * n + r].largest));
        }
        for (std::int64_t part = 0; part < parts; ++part) {
            const RowSums<T>& row = sums.data()[part * n + r];
            sum += row.sum * std::exp(static_cast<double>(row.largest) - largest);
            logits += row.logits;
            target_logit += static_cast<double>(row.target_logit);
        }
        const double log_sum = largest + std::log(sum), smoothing = args.label_smoothing;
        double loss = log_sum - target_logit;
        if (smoothing > 0) {
            const double all = log_sum - logits / static_cast<double>(args.items);
            loss = (1 - smoothing) * loss + smoothing * all;
        }
        args.loss[rows.number[static_cast<std::size_t>(r)]] = static_cast<T>(loss);
        args.log_sum[rows.number[static_cast<std::size_t>(r)]] = static_cast<T>(log_sum);
    }
}

// dweight, or the updated rows, of a panel.
template <class T>
void finish_items(const CrossEntropyArgs<T>& args, const PanelLogits<T>& logits,
                  const ItemPanel<T>& items, T* gradient) {
    for (std::int64_t i = 0; i < logits.n_items; ++i) {
        const std::int64_t item = logits.first + i;
        T* const to = args.dweight != nullptr ? args.dweight + item * args.dim : gradient;
        items.copy_item_gradient(i, logits.scale, to);
        if (args.update != nullptr) {
            update_row(*args.update, args.table, item, args.dim, to);
        }
    }
}

template <class T>
void cross_entropy_backward(const CrossEntropyArgs<T>& args) {
    const TargetRows<T> rows(args);
    const auto n = static_cast<std::int64_t>(rows.hidden.size());
    const bool for_items = args.dweight != nullptr || args.update != nullptr;
    const HiddenTiles<T> hidden(rows.hidden, args.dim, args.precision, for_items);
    std::vector<T> log_sum, row_grad;
    for (const std::int64_t r : rows.number) {
        log_sum.push_back(args.log_sum[r]);
        row_grad.push_back(args.row_grad[r]);
    }
    const std::int64_t panels = panel_count(args), stride = padded_to_vectors<T>(args.dim);
    const std::int64_t parts =
        part_count(panels, n * stride * static_cast<std::int64_t>(sizeof(T)));
    AlignedBuffer<T> dhidden(
        static_cast<std::size_t>(args.dhidden == nullptr ? 0 : parts * n * stride));
    parallel_for(parts, [&](std::int64_t part) {
        const DotSession session(dot_type(args.precision));
        T* const part_dhidden = dhidden.data() + part * n * stride;
        if (args.dhidden != nullptr) {
            std::fill_n(part_dhidden, n * stride, T(0));
        }
        ItemPanel<T> items(args.dim, args.precision, args.dhidden != nullptr);
        AlignedBuffer<T> dscores(static_cast<std::size_t>(kRowsPerTile * kPanelItems<T>));

        std::vector<T> gradient(static_cast<std::size_t>(args.dim));
        const T* dscores_rows[kRowsPerTile];
        for (std::int64_t r = 0; r < kRowsPerTile; ++r) {
            dscores_rows[r] = dscores.data() + r * kPanelItems<T>;
        }
        const std::int64_t end = panels * (part + 1) / parts;
        for (std::int64_t panel = panels * part / parts; panel < end; ++panel) {
            const PanelLogits<T> logits(args, panel);
            items.load(logits.n_items,
                       [&](std::int64_t i) { return args.weight + (logits.first + i) * args.dim; });
            if (for_items) {
                items.clear_item_gradient();
            }
            T dbias[kPanelItems<T>] = {};
            for (std::int64_t tile = 0; tile < hidden.n_tiles(); ++tile) {
                const std::int64_t row = tile * kRowsPerTile, n_rows = hidden.rows_in(tile);
                const LogitGradOp<T> op{
                    logits,
                    rows.target.data() + row,
                    log_sum.data() + row,
                    row_grad.data() + row,
                    static_cast<T>(args.label_smoothing / static_cast<double>(args.items)),
                    static_cast<T>(1 - args.label_smoothing),
                    dscores.data()};
                items.scores(op, hidden, tile);
                std::fill(dscores.data() + n_rows * kPanelItems<T>,
                          dscores.data() + kRowsPerTile * kPanelItems<T>, T(0));
                if (args.dhidden != nullptr) {
                    items.add_hidden_gradient(dscores_rows, n_rows, part_dhidden + row * stride,
                                              stride);
                }
                if (for_items) {
                    items.add_item_gradient(dscores.data(), hidden, tile);
                }
                for (std::int64_t r = 0; args.dbias != nullptr && r < n_rows; ++r) {
                    for (std::int64_t i = 0; i < kPanelItems<T>; ++i) {
                        dbias[i] += dscores_rows[r][i];
                    }
                }
            }
            if (for_items) {
                finish_items(args, logits, items, gradient.data());
            }
            if (args.dbias != nullptr) {
                std::copy_n(dbias, logits.n_items, args.dbias + logits.first);
            }
        }
    });
    if (args.dhidden == nullptr) {
        return;
    }
    std::fill_n(args.dhidden, args.rows * args.dim, T(0));
    const auto scale = static_cast<T>(args.scale);
    parallel_for((n + kRowsPerTile - 1) / kRowsPerTile, [&](std::int64_t tile) {
        for (std::int64_t r = tile * kRowsPerTile; r < std::min(n, (tile + 1) * kRowsPerTile);
             ++r) {
            T* to = args.dhidden + rows.number[static_cast<std::size_t>(r)] * args.dim;
            for (std::int64_t part = 0; part < parts; ++part) {
                const T* from = dhidden.data() + (part * n + r) * stride;
                for (std::int64_t k = 0; k < args.dim; ++k) {
                    to[k] += scale * from[k];
                }
            }
        }
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(cross_entropy_forward_cpu, cross_entropy_forward, CrossEntropyArgs)
SEQREC_DISPATCH_FLOATS(cross_entropy_backward_cpu, cross_entropy_backward, CrossEntropyArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
