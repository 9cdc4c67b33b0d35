// Where sequences are cut into segments, on a GPU: a mark for each event that starts one. A thread
// has an event where its neighbour alone matters. The largest gaps of a sequence are found by a
// block, eight bits at a time, in time that grows with the number of its events alone.
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "cuda/launch.h"
#include "cuda/scan.h"
#include "cuda/segment_kernels.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr int kDigit = 8;

// Gaps in the order of their keys; 0 for what is no gap. Differences of integers are exact.
template <class Time>
SEQREC_FN unsigned long long gap_key(Time before, Time after) {
    if constexpr (std::is_integral_v<Time>) {
        return after > before ? static_cast<unsigned long long>(after) -
                                    static_cast<unsigned long long>(before)
                              : 0;
    } else {
        const double gap = after - before;
        unsigned long long bits = 0;
        if (gap > 0) {
            std::memcpy(&bits, &gap, sizeof bits);  // positive numbers are ordered as their bits
        }
        return bits;
    }
}
template <class Time>
SEQREC_FN bool exceeds(Time before, Time after, double gap) {
    if constexpr (std::is_integral_v<Time>) {
        return static_cast<double>(gap_key(before, after)) > gap;
    } else {
        return after - before > gap;
    }
}

template <class Time>
SEQREC_FN bool is_wrong(const Time* times, std::int64_t n, bool first) {
    if (times == nullptr) {
        return false;
    }
    if constexpr (!std::is_integral_v<Time>) {
        if (!(std::fabs(times[n]) <= std::numeric_limits<Time>::max())) {
            return true;
        }
    }
    return !first && times[n] < times[n - 1];
}

// Of the sequences, which begin where the one before ends; also for those that are none.
template <class Time>
__global__ void __launch_bounds__(kThreads)
    check_offsets_kernel(SegmentCutArgs<Time> args, std::int64_t events, std::int64_t* status) {
    const std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (b > args.batch) {
        return;
    }
    const std::int64_t offset = args.offsets[b], before = b == 0 ? 0 : args.offsets[b - 1];
    if (offset < before || (b == 0 && offset != 0) || (b == args.batch && offset != events)) {
        *status = 1;  // whoever writes writes the same
    }
}

template <class Time>
__global__ void __launch_bounds__(kThreads)
    mark_events_kernel(SegmentCutArgs<Time> args, std::int64_t events, std::uint8_t* starts,
                       std::int64_t* status) {
    const std::int64_t n = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (n >= events) {
        return;
    }
    const std::int64_t sequence = count_up_to(args.offsets, args.batch, n) - 1;
    const std::int64_t place = sequence < 0 ? 0 : n - args.offsets[sequence];
    bool starts_here = place == 0;
    if (args.rule == SegmentRule::window) {
        starts_here = place % args.window == 0;
    } else if (args.rule == SegmentRule::gap && place > 0 && n > 0) {
        starts_here = exceeds(args.times[n - 1], args.times[n], args.gap);
    }
    starts[n] = starts_here ? 1 : 0;
    if (is_wrong(args.times, n, place == 0 || n == 0)) {
        *status = 1;
    }
}

// A block has a sequence, and marks the count - 1 largest gaps: those with a key above a threshold,
// which is found digit by digit, and the earliest of those that equal it.
template <class Time>
__global__ void __launch_bounds__(kThreads)
    mark_largest_gaps_kernel(SegmentCutArgs<Time> args, std::int64_t events, std::uint8_t* starts) {
    constexpr unsigned kBins = 1U << kDigit;
    static_assert(kBins == kThreads);
    SEQREC_SHARED unsigned counts[kBins];
    SEQREC_SHARED unsigned long long found_prefix;
    SEQREC_SHARED std::int64_t found_wanted;
    const std::int64_t begin = args.offsets[blockIdx.x], end = args.offsets[blockIdx.x + 1];
    const std::int64_t first = begin < 0 ? 0 : begin, last = end < events ? end : events;
    std::int64_t wanted = args.count - 1;
    if (wanted == 0 || last - first < 2) {
        return;
    }
    const auto key = [&](std::int64_t n) { return gap_key(args.times[n - 1], args.times[n]); };
    unsigned long long prefix = 0;
    for (int shift = 64 - kDigit; shift >= 0; shift -= kDigit) {
        counts[threadIdx.x] = 0;
        __syncthreads();
        for (std::int64_t n = first + 1 + threadIdx.x; n < last; n += kThreads) {
            const unsigned long long own = key(n);
            // Shifted twice: by 64 is not defined.
            if (own >> shift >> kDigit == prefix >> shift >> kDigit) {
                atomicAdd(&counts[own >> shift & (kBins - 1)], 1U);
            }
        }
        __syncthreads();
        // From the largest digit down.
        const unsigned digit = kBins - 1 - threadIdx.x;
        const BlockSum sum = block_sum<kThreads>(counts[digit]);
        if (threadIdx.x == 0) {
            found_prefix = prefix;
            found_wanted = wanted;
        }
        __syncthreads();
        // If there are fewer gaps than wanted the threshold is 0, which is no gap.
        if (sum.before < wanted && wanted <= sum.before + counts[digit]) {
            found_prefix = prefix | static_cast<unsigned long long>(digit) << shift;
            found_wanted = wanted - sum.before;
        }
        __syncthreads();
        prefix = found_prefix;
        wanted = found_wanted;
    }
    // `wanted` of those that equal the threshold; a warp's turn is 32 neighbours, in their order.
    std::int64_t taken = 0;
    for (std::int64_t from = first + 1; from < last; from += kThreads) {
        const std::int64_t n = from + threadIdx.x;
        const unsigned long long own = n < last ? key(n) : 0;
        const bool equal = own != 0 && own == prefix;
        const BlockSum sum = block_sum<kThreads>(equal ? 1 : 0);
        if (own > prefix || (equal && taken + sum.before < wanted)) {
            starts[n] = 1;
        }
        taken += sum.total;
    }
}

}  // namespace
}  // namespace cuda

template <class Time>
void segment_starts_cuda(const SegmentCutArgs<Time>& args, std::int64_t events,
                         std::uint8_t* starts, std::int64_t* status, cudaStream_t stream) {
    using cuda::kThreads;
    constexpr const char* kName = "session_segments";
    cuda::launch(kName, cuda::check_offsets_kernel<Time>, {args.batch / kThreads + 1, kThreads},
                 stream, args, events, status);
    cuda::launch(kName, cuda::mark_events_kernel<Time>,
                 {(events + kThreads - 1) / kThreads, kThreads}, stream, args, events, starts,
                 status);
    if (args.rule == SegmentRule::top_gaps) {
        cuda::launch(kName, cuda::mark_largest_gaps_kernel<Time>, {args.batch, kThreads}, stream,
                     args, events, starts);
    }
}

template void segment_starts_cuda(const SegmentCutArgs<double>&, std::int64_t, std::uint8_t*,
                                  std::int64_t*, cudaStream_t);
template void segment_starts_cuda(const SegmentCutArgs<std::int64_t>&, std::int64_t, std::uint8_t*,
                                  std::int64_t*, cudaStream_t);

}  // namespace seqrec_fast
