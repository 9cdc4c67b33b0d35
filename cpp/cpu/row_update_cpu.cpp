// Gradients and updates of some rows of a table on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/row_update_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <vector>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/row_update-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Rows of one task: enough that handing it out costs little.
constexpr std::int64_t kRowsPerTask = 64;

template <class Visit>
void for_each_row(std::int64_t n, const Visit& visit) {
    parallel_for((n + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task) {
        const std::int64_t end = std::min(n, (task + 1) * kRowsPerTask);
        for (std::int64_t i = task * kRowsPerTask; i < end; ++i) {
            visit(i);
        }
    });
}

template <class T>
HWY_INLINE void sum_rows(const RowSumArgs<T>& args, std::int64_t i, T* to) {
    const Lanes<T> d;
    for (std::int64_t k = 0; k < args.dim; k += lane_count<T>()) {
        const std::int64_t n = args.dim - k;
        auto sum = hn::Zero(d);
        for (std::int64_t e = args.begin[i]; e < args.begin[i + 1]; ++e) {
            const std::int64_t row = args.order[e];
            const auto factor = hn::Set(d, args.factors == nullptr ? T(1) : args.factors[row]);
            sum = hn::MulAdd(factor, load_part(d, args.rows[row] + k, n), sum);
        }
        store_part(sum, d, to + k, n);
    }
}

template <class T>
void row_sum(const RowSumArgs<T>& args) {
    for_each_row(args.unique, [&](std::int64_t i) { sum_rows(args, i, args.sums + i * args.dim); });
}

// Asks for a row that is soon to be changed; rows lie anywhere in a large table.
template <class T>
HWY_INLINE void fetch_row(const T* table, std::int64_t row, std::int64_t dim) {
    for (std::int64_t k = 0; table != nullptr && k < dim; k += kPackedLanes<T>) {
        __builtin_prefetch(table + row * dim + k, 1, 2);
    }
}

template <class T>
void row_update(const RowUpdateArgs<T>& args) {
    constexpr std::int64_t kRowsAhead = 4;
    for_each_row(args.n, [&](std::int64_t i) {
        if (i + kRowsAhead < args.n) {
            const std::int64_t row = args.ids[i + kRowsAhead];
            fetch_row(args.table, row, args.dim);
            fetch_row(args.update.mean, row, args.dim);
            fetch_row(args.update.square, row, args.dim);
        }
        const T* gradient = args.gradients + i * args.dim;
        if (args.sums != nullptr) {
            thread_local std::vector<T> sum;
            sum.resize(static_cast<std::size_t>(args.dim));
            sum_rows(*args.sums, i, sum.data());
            gradient = sum.data();
        }
        update_row(args.update, args.table, args.ids[i], args.dim, gradient);
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(row_sum_cpu, row_sum, RowSumArgs)
SEQREC_DISPATCH_FLOATS(row_update_cpu, row_update, RowUpdateArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
