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

// Events of one pass, in whole blocks of a sum: the packed gates and inputs stay in L2.
constexpr std::int64_t kEventsPerPass = 2 * kDepthBlock;

// weight += the sums over a pass. Its rows are the gates, whose gradients lie in packed vectors.
template <class T>
struct WeightGradOp : SumsFromZero<T> {
    static constexpr std::int64_t kRowStep = kPackedLanes<T>;

    HWY_INLINE WeightGradOp part(std::int64_t block) const {
        return {{}, args, begin, block * kPackedLanes<T>};
    }
    template <int kVectors>
    HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                           const hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        const Lanes<T> d;
        const std::int64_t first = column + lane;
        T* to = args.weight + args.gate_of(begin + row) * args.width + first;
        for (int v = 0; v < kVectors; ++v, to += kPackedLanes<T>) {
            const std::int64_t left = args.width - first - v * kPackedLanes<T>;
            store_part(hn::Add(load_part(d, to, left), acc[v]), d, to, left);
        }
    }

    const RnnWeightGradArgs<T>& args;
    std::int64_t begin, column;
};

// bias += column sums of a pass, of the columns [begin, begin + n_gates).
template <class T>
void add_column_sums(const RnnWeightGradArgs<T>& args, const PackedPanels<T>& gates,
                     std::int64_t events, std::int64_t begin, std::int64_t n_gates) {
    const Lanes<T> d;
    for (std::int64_t column = 0; column < n_gates; column += lane_count<T>()) {
        const T* from = gates.panel(column / kPackedLanes<T>) + column % kPackedLanes<T>;
        hn::Vec<Lanes<T>> sum = hn::Zero(d);
        for (std::int64_t k = 0; k < events; ++k) {
            sum = hn::Add(sum, hn::LoadU(d, from + k * kPackedLanes<T>));
        }
        alignas(kCacheLine) T sums[lane_count<T>()];
        hn::Store(sum, d, sums);
        for (std::int64_t i = 0; i < std::min(lane_count<T>(), n_gates - column); ++i) {
            args.bias[args.gate_of(begin + column + i)] += sums[i];
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
        if (reduced && has_weight) {
            const DotSession session(dot_type(args.precision));
            WeightGradDots(args, begin, n_gates).run();
            has_weight = false;
        }
    }
    for (std::int64_t column = begin; column < end && !args.add; ++column) {
        if (has_weight) {
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
    workspace.reserve(Workspace::bytes_for<const T*>(n_gates));
    const T** rows = workspace.take<const T*>(n_gates);
    PackedPanels<T> gates, inputs;
    for (std::int64_t event = 0; event < args.events; event += kEventsPerPass) {
        const std::int64_t n = std::min(kEventsPerPass, args.events - event);
        if (n != inputs.depth()) {
            // An odd depth, so that the same event of all panels does not fall on few cache sets.
            gates = PackedPanels<T>(n_gates, n | 1, 1);
            inputs = PackedPanels<T>(args.width, n, kMaxPanelVectors);
            for (std::int64_t i = 0; i < n_gates; ++i) {
                rows[i] = gates.panel(i / kPackedLanes<T>) + i % kPackedLanes<T>;
            }
        }
        for (std::int64_t k = 0; k < n; ++k) {
            gates.fill_term(k, args.gates + (event + k) * args.gates_stride + begin, n_gates);
        }
        if (args.bias != nullptr) {
            add_column_sums(args, gates, n, begin, n_gates);
        }
        if (has_weight) {
            for (std::int64_t k = 0; k < n; ++k) {
                inputs.fill_term(k, args.inputs[event + k], args.width);
            }
            multiply_plain(WeightGradOp<T>{{}, args, begin, 0}, rows, n_gates, inputs);
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
