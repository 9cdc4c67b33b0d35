// One linear layer per group of rows on the CPU, for every target.
//
// A task is some rows of one group: it packs the group's weights, which costs little beside the
// product, and needs nothing of other tasks. Weight gradients are those of a recurrent layer whose
// gates are dy.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/grouped_linear_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>
#include <vector>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/gemm-inl.h"
#include "cpu/grouped_linear_kernels.h"
#include "cpu/rnn_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Rows at a time: they stay in cache while the panels pass over them.
constexpr std::int64_t kRowsPerTile = 96;
// Rows of a task, so many that packing the weights is a small part of it.
constexpr std::int64_t kRowsPerTask = 10 * kRowsPerTile;

// to[row] = the product's row plus bias; `width` columns, from `column` on. Sums start from zero:
// with a bias of any width there the compiler leaves the register tile in memory.
template <class T>
struct StoreRowsOp : SumsFromZero<T> {
    HWY_INLINE StoreRowsOp part(std::int64_t block) const {
        return {{}, bias, to, width, block * kPackedLanes<T>};
    }
    template <int kVectors>
    HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                           const hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        const Lanes<T> d;
        for (int v = 0; v < kVectors; ++v) {
            const std::int64_t first = column + v * kPackedLanes<T> + lane, n = width - first;
            const auto sum =
                bias == nullptr ? acc[v] : hn::Add(acc[v], load_part(d, bias + first, n));
            store_part(sum, d, to + row * width + first, n);
        }
    }

    const T* bias;
    T* to;
    std::int64_t width, column;
};

// weight (out, in) as columns of a product with rows of `in`.
template <class T>
void fill_columns(const T* weight, std::int64_t out, std::int64_t in, PackedPanels<T>& panels) {
    for (std::int64_t v = 0; v < panels.n_vectors(); ++v) {
        const T* const first = weight + v * kPackedLanes<T> * in;
        const std::int64_t lanes = std::min(kPackedLanes<T>, out - v * kPackedLanes<T>);
        const T* rows[kPackedLanes<T>];
        for (std::int64_t lane = 0; lane < lanes; ++lane) {
            rows[lane] = first + lane * in;
        }
        panels.fill_vector_from_rows(v, lanes, rows);
    }
}

// weight (out, in) as terms of a product with rows of `out`.
template <class T>
void fill_terms(const T* weight, std::int64_t out, std::int64_t in, PackedPanels<T>& panels) {
    for (std::int64_t k = 0; k < out; ++k) {
        panels.fill_term(k, weight + k * in, in);
    }
}

struct GroupRows {
    std::int64_t group, first, last;
};

// Every group's rows in parts of a size that depends on the sizes alone.
std::vector<GroupRows> tasks_of(const std::int64_t* offsets, std::int64_t groups) {
    std::vector<GroupRows> tasks;
    for (std::int64_t m = 0; m < groups; ++m) {
        for (std::int64_t row = offsets[m]; row < offsets[m + 1]; row += kRowsPerTask) {
            tasks.push_back({m, row, std::min(offsets[m + 1], row + kRowsPerTask)});
        }
    }
    return tasks;
}

// to (rows, width) = from (rows, depth) times the group's weights as `fill` packs them.
template <class T, class Fill>
void multiply_groups(const GroupedLinearArgs<T>& args, const T* from, std::int64_t depth,
                     const T* bias, T* to, std::int64_t width, const Fill& fill) {
    const std::vector<GroupRows> tasks = tasks_of(args.offsets, args.groups);
    parallel_for(static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i) {
        const GroupRows& task = tasks[static_cast<std::size_t>(i)];
        PackedPanels<T> panels(width, depth, kMaxPanelVectors);
        fill(args.weight + task.group * args.out * args.in, args.out, args.in, panels);
        for (std::int64_t row = task.first; row < task.last; row += kRowsPerTile) {
            const std::int64_t n = std::min(kRowsPerTile, task.last - row);
            const T* rows[kRowsPerTile];
            for (std::int64_t r = 0; r < n; ++r) {
                rows[r] = from + (row + r) * depth;
            }
            const T* const group_bias = bias == nullptr ? nullptr : bias + task.group * width;
            multiply_plain(StoreRowsOp<T>{{}, group_bias, to + row * width, width, 0}, rows, n,
                           panels);
        }
    });
}

template <class T>
void grouped_linear(const GroupedLinearArgs<T>& args) {
    multiply_groups(args, args.x, args.in, args.bias, args.y, args.out, &fill_columns<T>);
}

template <class T>
void grouped_linear_grad(const GroupedLinearArgs<T>& args) {
    if (args.dx != nullptr) {
        multiply_groups<T>(args, args.dy, args.out, nullptr, args.dx, args.in, &fill_terms<T>);
    }
    if (args.dweight == nullptr && args.dbias == nullptr) {
        return;
    }
    const std::int64_t rows = args.offsets[args.groups];
    std::vector<const T*> inputs(static_cast<std::size_t>(rows));
    for (std::int64_t row = 0; row < rows; ++row) {
        inputs[static_cast<std::size_t>(row)] = args.x + row * args.in;
    }
    for (std::int64_t m = 0; m < args.groups; ++m) {
        const std::int64_t first = args.offsets[m];
        rnn_weight_grad_cpu<T>(
            {args.dy + first * args.out, args.out, args.out, 0, args.offsets[m + 1] - first,
             inputs.data() + first, args.in,
             args.dweight == nullptr ? nullptr : args.dweight + m * args.out * args.in,
             args.dbias == nullptr ? nullptr : args.dbias + m * args.out, Precision::full});
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(grouped_linear_cpu, grouped_linear, GroupedLinearArgs)
SEQREC_DISPATCH_FLOATS(grouped_linear_grad_cpu, grouped_linear_grad, GroupedLinearArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
