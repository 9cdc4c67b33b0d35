// Sums over segments, and rows of segments spread over their events, on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/segment_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/segment_kernels.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Segments of one task.
constexpr std::int64_t kSegmentsPerTask = 16;

template <class Visit>
void for_each_segment(std::int64_t segments, const Visit& visit) {
    parallel_for((segments + kSegmentsPerTask - 1) / kSegmentsPerTask, [&](std::int64_t task) {
        const std::int64_t end = std::min(segments, (task + 1) * kSegmentsPerTask);
        for (std::int64_t s = task * kSegmentsPerTask; s < end; ++s) {
            visit(s);
        }
    });
}

// A mean is divided, not multiplied by a rounded inverse.
template <class T>
HWY_INLINE hn::Vec<Lanes<T>> divided(hn::Vec<Lanes<T>> v, std::int64_t n) {
    return hn::Div(v, hn::Set(Lanes<T>(), static_cast<T>(n)));
}

template <class T>
void segment_sum(const SegmentSumArgs<T>& args) {
    const Lanes<T> d;
    const std::int64_t dim = args.dim;
    for_each_segment(args.segments, [&](std::int64_t s) {
        const std::int64_t first = args.offsets[s], last = args.offsets[s + 1];
        for (std::int64_t i = 0; i < dim; i += lane_count<T>()) {
            auto sum = hn::Zero(d);
            for (std::int64_t n = first; n < last; ++n) {
                sum = hn::Add(sum, load_part(d, args.values + n * dim + i, dim - i));
            }
            if (args.mean && first < last) {
                sum = divided<T>(sum, last - first);
            }
            store_part(sum, d, args.out + s * dim + i, dim - i);
        }
    });
}

template <class T>
void expand_segments(const ExpandSegmentsArgs<T>& args) {
    const std::int64_t dim = args.dim;
    for_each_segment(args.segments, [&](std::int64_t s) {
        const std::int64_t first = args.offsets[s], last = args.offsets[s + 1];
        const T* const row = args.rows + s * dim;
        T* const out = args.out + first * dim;
        if (first == last) {
            return;
        }
        if constexpr (std::is_floating_point_v<T>) {
            if (args.mean) {
                const Lanes<T> d;
                for (std::int64_t i = 0; i < dim; i += lane_count<T>()) {
                    store_part(divided<T>(load_part(d, row + i, dim - i), last - first), d, out + i,
                               dim - i);
                }
            } else {
                std::copy_n(row, dim, out);
            }
        } else {
            std::copy_n(row, dim, out);
        }
        for (std::int64_t n = 1; n < last - first; ++n) {
            std::copy_n(out, dim, out + n * dim);
        }
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(segment_sum_cpu, segment_sum, SegmentSumArgs)
SEQREC_DISPATCH_FLOATS(expand_segments_cpu, expand_segments, ExpandSegmentsArgs)
template <>
void expand_segments_cpu(const ExpandSegmentsArgs<std::int64_t>& args) {
    static SEQREC_DISPATCH_TABLE(kTable, expand_segments<std::int64_t>);
    kTable[active_target()](args);
}
}  // namespace seqrec_fast
#endif  // HWY_ONCE
