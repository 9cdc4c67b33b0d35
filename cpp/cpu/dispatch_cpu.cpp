// Rows to their experts and back on the CPU, for every target.
//
// Both go through the events in order: one side is read or written as it lies, the other has one
// stream per expert. So each row of the events is touched once, whatever k.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/dispatch_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/dispatch_kernels.h"
#include "cpu/row_dot-inl.h"
#include "cpu/row_writer-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Events of one task: enough that handing it out costs little.
constexpr std::int64_t kEventsPerTask = 256;

template <class Visit>
void for_each_event(std::int64_t events, const Visit& visit) {
    parallel_for((events + kEventsPerTask - 1) / kEventsPerTask, [&](std::int64_t task) {
        const std::int64_t end = std::min(events, (task + 1) * kEventsPerTask);
        for (std::int64_t n = task * kEventsPerTask; n < end; ++n) {
            visit(n);
        }
        hwy::FlushStream();  // streamed rows are seen by other threads
    });
}

template <class T>
void dispatch_rows(const DispatchRowsArgs<T>& args) {
    const Lanes<T> d;
    const std::int64_t dim = args.dim;
    const RowWriter<T> writer(args.rows, args.nnz, dim);
    for_each_event(args.events, [&](std::int64_t n) {
        const T* const from = args.values + n * dim;
        for (std::int64_t slot = n * args.k; slot < (n + 1) * args.k; ++slot) {
            const std::int64_t row = args.position[slot];
            if (args.other != nullptr) {
                args.dots[slot] = row < 0 ? T(0) : row_dot(from, args.other + row * dim, dim);
            }
            if (row < 0) {
                continue;
            }
            T* const to = args.rows + row * dim;
            const auto weight = hn::Set(d, args.weights == nullptr ? T(1) : args.weights[slot]);
            for (std::int64_t i = 0; i < dim; i += lane_count<T>()) {
                writer.write(hn::Mul(weight, load_part(d, from + i, dim - i)), to + i, dim - i);
            }
        }
    });
}

template <class T>
void combine_rows(const CombineRowsArgs<T>& args) {
    const Lanes<T> d;
    const std::int64_t dim = args.dim, k = args.k;
    const RowWriter<T> writer(args.sums, args.events, dim);
    for_each_event(args.events, [&](std::int64_t n) {
        const std::int64_t* const position = args.position + n * k;
        const T* const weights = args.weights == nullptr ? nullptr : args.weights + n * k;
        for (std::int64_t i = 0; i < dim; i += lane_count<T>()) {
            auto sum = hn::Zero(d);
            for (std::int64_t j = 0; j < k; ++j) {
                if (position[j] >= 0) {
                    const auto row = load_part(d, args.rows + position[j] * dim + i, dim - i);
                    sum = weights == nullptr ? hn::Add(sum, row)
                                             : hn::MulAdd(hn::Set(d, weights[j]), row, sum);
                }
            }
            writer.write(sum, args.sums + n * dim + i, dim - i);
        }
        for (std::int64_t j = 0; args.other != nullptr && j < k; ++j) {
            args.dots[n * k + j] =
                position[j] < 0 ? T(0)
                                : row_dot(args.other + n * dim, args.rows + position[j] * dim, dim);
        }
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(dispatch_rows_cpu, dispatch_rows, DispatchRowsArgs)
SEQREC_DISPATCH_FLOATS(combine_rows_cpu, combine_rows, CombineRowsArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
