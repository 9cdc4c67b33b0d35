// Transposition on the CPU, for every target: blocks of 16 bytes square.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/transpose_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>

#include "base/dispatch-inl.h"
#include "cpu/transpose.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR
template <class T>
constexpr std::int64_t kBlock = 1;

template <class T>
HWY_INLINE void transpose_block(const T* const* rows, std::int64_t k, T* to, std::int64_t) {
    *to = rows[0][k];
}
#else
template <class T>
constexpr std::int64_t kBlock = 16 / sizeof(T);

HWY_INLINE void transpose_block(const float* const* rows, std::int64_t k, float* to,
                                std::int64_t stride) {
    const hn::FixedTag<float, 4> d;
    const hn::FixedTag<double, 2> pairs;
    const auto row = [&](int i) { return hn::LoadU(d, rows[i] + k); };
    const auto a = row(0), b = row(1), c = row(2), e = row(3);
    const auto ab_lower = hn::BitCast(pairs, hn::InterleaveLower(d, a, b));
    const auto ab_upper = hn::BitCast(pairs, hn::InterleaveUpper(d, a, b));
    const auto ce_lower = hn::BitCast(pairs, hn::InterleaveLower(d, c, e));
    const auto ce_upper = hn::BitCast(pairs, hn::InterleaveUpper(d, c, e));
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_lower, ce_lower)), d, to);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_lower, ce_lower)), d, to + stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveLower(pairs, ab_upper, ce_upper)), d, to + 2 * stride);
    hn::StoreU(hn::BitCast(d, hn::InterleaveUpper(pairs, ab_upper, ce_upper)), d, to + 3 * stride);
}

HWY_INLINE void transpose_block(const double* const* rows, std::int64_t k, double* to,
                                std::int64_t stride) {
    const hn::FixedTag<double, 2> d;
    const auto a = hn::LoadU(d, rows[0] + k), b = hn::LoadU(d, rows[1] + k);
    hn::StoreU(hn::InterleaveLower(d, a, b), d, to);
    hn::StoreU(hn::InterleaveUpper(d, a, b), d, to + stride);
}
#endif

// Lines that rows are asked for ahead: more rows than the processor follows by itself.
constexpr std::int64_t kAhead = 2;

template <class T>
void transpose(const TransposeArgs<T>& args) {
    const std::int64_t rows = args.n / kBlock<T> * kBlock<T>;
    const std::int64_t columns = args.depth / kBlock<T> * kBlock<T>;
    // A cache line of every row at a time, so that both sides are read and written whole.
    constexpr auto kLine = static_cast<std::int64_t>(64 / sizeof(T));
    for (std::int64_t first = 0; first < columns; first += kLine) {
        const std::int64_t last = std::min(columns, first + kLine);
        for (std::int64_t i = 0; i < rows; i += kBlock<T>) {
            for (std::int64_t r = i; r < i + kBlock<T>; ++r) {
                hwy::Prefetch(args.rows[r] + std::min(first + kAhead * kLine, args.depth - 1));
            }
            for (std::int64_t k = first; k < last; k += kBlock<T>) {
                transpose_block(args.rows + i, k, args.to + k * args.stride + i, args.stride);
            }
        }
    }
    for (std::int64_t k = 0; k < args.depth; ++k) {
        for (std::int64_t i = k < columns ? rows : 0; i < args.n; ++i) {
            args.to[k * args.stride + i] = args.rows[i][k];
        }
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(transpose_cpu, transpose, TransposeArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
