// Dropout on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/dropout_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "cpu/dropout.h"
#include "cpu/philox-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
void drop_row(const DropoutArgs<T>& args, std::int64_t i, const T* from, T* to) {
    const T kept = static_cast<T>(1 / (1 - args.p));
    const auto row = static_cast<std::uint64_t>(i);
    philox_chances(args.seed, static_cast<std::uint32_t>(row),
                   static_cast<std::uint32_t>(row >> 32), args.stream, args.p, args.dim,
                   [&](std::int64_t k, bool drops) { to[k] = drops ? T(0) : kept * from[k]; });
}

template <class T>
void dropout(const DropoutArgs<T>& args) {
    constexpr std::int64_t kRowsPerTask = 64;
    parallel_for((args.rows + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task) {
        const std::int64_t end = std::min(args.rows, (task + 1) * kRowsPerTask);
        for (std::int64_t i = task * kRowsPerTask; i < end; ++i) {
            const T* from = args.from + (args.ids == nullptr ? i : args.ids[i]) * args.dim;
            T* to = args.to + i * args.dim;
            if (args.p > 0) {
                drop_row(args, i, from, to);
            } else if (from != to) {
                std::copy_n(from, args.dim, to);
            }
        }
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(dropout_cpu, dropout, DropoutArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
