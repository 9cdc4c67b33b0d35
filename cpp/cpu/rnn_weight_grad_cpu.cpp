// Weight gradients on the CPU, for every target: sums of outer products over all events.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rnn_weight_grad_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "base/workspace.h"
#include "cpu/gemm-inl.h"
#include "cpu/rnn_kernels.h"
#include "cpu/rnn_weight_grad_dots-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Events of one pass: their gates and the packed inputs stay in L2.
constexpr std::int64_t kEventsPerPass = weight_grad_events(Precision::full);
static_assert(kEventsPerPass % kDepthBlock == 0, "a pass is whole blocks of a sum");

// weight = the sums over a pass, or more by them. Its rows are the gates: columns of the matrix of
// gradients.
template <class T>
struct WeightGradOp : SumsFromZero<T> {
    HWY_INLINE WeightGradOp part(std::int64_t block) const {
        return {{}, args, row_step, begin, add, block * kPackedLanes<T>};
    }
    template <int kVectors>
    HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                           const hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        const Lanes<T> d;
        const std::int64_t first = column + lane;
        T* to = args.weight + args.gate_of(begin + row) * args.width + first;
        for (int v = 0; v < kVectors; ++v, to += kPackedLanes<T>) {
            const std::int64_t left = args.width - first - v * kPackedLanes<T>;
            store_part(add ? hn::Add(load_part(d, to, left), acc[v]) : acc[v], d, to, left);
        }
    }

    const RnnWeightGradArgs<T>& args;
    std::int64_t row_step, begin;
    bool add;
    std::int64_t column;
};

// bias += column sums of a pass, of the columns [begin, end); `gates` is the first one's. Reads
// whole cache lines of a row at once, so that the product after it finds them in L2. Sums of a few
// events each are added up, so that rounding grows with their number.
template <class T>
void add_column_sums(const RnnWeightGradArgs<T>& args, const T* gates, std::int64_t stride,
                     std::int64_t events, std::int64_t begin, std::int64_t end) {
    constexpr int kVectors = 8;
    constexpr std::int64_t kWidth = kVectors * lane_count<T>();
    constexpr std::int64_t kFewEvents = 16;
    const Lanes<T> d;
    for (std::int64_t column = begin; column < end; column += kWidth) {
        const std::int64_t n = std::min(kWidth, end - column);
        hn::Vec<Lanes<T>> sums[kVectors];
        for (auto& sum : sums) {
            sum = hn::Zero(d);
        }
        for (std::int64_t k0 = 0; k0 < events; k0 += kFewEvents) {
            hn::Vec<Lanes<T>> few[kVectors];
            for (auto& sum : few) {
                sum = hn::Zero(d);
            }
            for (std::int64_t k = k0; k < std::min(events, k0 + kFewEvents); ++k) {
                const T* from = gates + k * stride + (column - begin);
                for (int v = 0; v < kVectors; ++v) {
                    const std::int64_t first = v * lane_count<T>();
                    const auto value = n == kWidth ? hn::LoadU(d, from + first)
                                                   : load_part(d, from + first, n - first);
                    few[v] = hn::Add(few[v], value);
                }
            }
            for (int v = 0; v < kVectors; ++v) {
                sums[v] = hn::Add(sums[v], few[v]);
            }
        }
        alignas(kCacheLine) T values[kWidth];
        for (int v = 0; v < kVectors; ++v) {
            hn::Store(sums[v], d, values + v * lane_count<T>());
        }
        for (std::int64_t i = 0; i < n; ++i) {
            args.bias[args.gate_of(column + i)] += values[i];
        }
    }
}

// The columns [begin, end) over all events, in the events' order whatever the range.
template <class T>
void weight_grad_range(const RnnWeightGradArgs<T>& args, std::int64_t begin, std::int64_t end,
                       bool reduced) {
    const std::int64_t n_gates = end - begin;
    bool has_weight = args.weight != nullptr;
    if constexpr (std::is_same_v<T, float>) {
        if (reduced && has_weight && args.events > 0) {
            const DotSession session(dot_type(args.precision));
            WeightGradDots(args, begin, n_gates).run();
            has_weight = false;
        }
    }
    for (std::int64_t column = begin; column < end && !args.add; ++column) {
        if (has_weight && args.events == 0) {
            std::fill_n(args.weight + args.gate_of(column) * args.width, args.width, T(0));
        }
        if (args.bias != nullptr) {
            args.bias[args.gate_of(column)] = T(0);
        }
    }
    if (!has_weight && args.bias == nullptr) {
        return;
    }
    Workspace& workspace = thread_workspace();
    // Where a column would fall on few cache sets, the gates of a pass are copied apart.
    const bool copies = args.gates_stride % (16 * kPackedLanes<T>) == 0;
    const std::int64_t stride =
        copies ? (blocks_of<T>(n_gates) | 1) * kPackedLanes<T> : args.gates_stride;
    const std::int64_t copied = copies ? kEventsPerPass * stride : 0;
    workspace.reserve(Workspace::bytes_for<const T*>(n_gates) + Workspace::bytes_for<T>(copied));
    const T** rows = workspace.take<const T*>(n_gates);
    T* const copy = workspace.take<T>(copied);
    PackedPanels<T> inputs;
    for (std::int64_t event = 0; event < args.events; event += kEventsPerPass) {
        const std::int64_t n = std::min(kEventsPerPass, args.events - event);
        if (has_weight && n != inputs.depth()) {
            inputs = PackedPanels<T>(args.width, n, kMaxPanelVectors);
        }
        const T* gates = args.gates + event * args.gates_stride + begin;
        for (std::int64_t k = 0; copies && k < n; ++k) {
            std::copy_n(gates + k * args.gates_stride, n_gates, copy + k * stride);
        }
        gates = copies ? copy : gates;
        for (std::int64_t i = 0; i < n_gates; ++i) {
            rows[i] = gates + i;
        }
        if (args.bias != nullptr) {
            add_column_sums(args, gates, stride, n, begin, end);
        }
        if (has_weight) {
            for (std::int64_t k = 0; k < n; ++k) {
                inputs.fill_term(k, args.inputs[event + k], args.width);
            }
            multiply_plain(WeightGradOp<T>{{}, args, stride, begin, args.add || event > 0, 0}, rows,
                           n_gates, inputs);
        }
    }
}

template <class T>
void weight_grad(const RnnWeightGradArgs<T>& args) {
    // A range packs all inputs anew, so there is one per thread and not more.
    const bool reduced = args.precision != Precision::full;
    const std::int64_t blocks = blocks_of<T>(args.n_gates);
    const std::int64_t ranges = std::min<std::int64_t>(blocks, num_threads());
    parallel_for(ranges, [&](std::int64_t i) {
        const std::int64_t begin = blocks * i / ranges * kPackedLanes<T>;
        const std::int64_t end = blocks * (i + 1) / ranges * kPackedLanes<T>;
        weight_grad_range(args, begin, std::min(end, args.n_gates), reduced);
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(rnn_weight_grad_cpu, weight_grad, RnnWeightGradArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
