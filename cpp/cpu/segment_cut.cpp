#include <algorithm>
#include <type_traits>

#include "cpu/segment_kernels.h"

namespace seqrec_fast {
namespace {

// The difference of times that do not decrease, exact for integers.
template <class Time>
auto gap_before(const Time* times, std::int64_t n) {
    if constexpr (std::is_integral_v<Time>) {
        return static_cast<std::uint64_t>(times[n]) - static_cast<std::uint64_t>(times[n - 1]);
    } else {
        return times[n] - times[n - 1];
    }
}

// The events, first + 1 to last - 1, before which the count - 1 largest gaps lie, ascending.
template <class Time>
void largest_gaps(const Time* times, std::int64_t first, std::int64_t last, std::int64_t count,
                  std::vector<std::int64_t>& starts) {
    starts.clear();
    for (std::int64_t n = first + 1; n < last; ++n) {
        if (times[n] > times[n - 1]) {
            starts.push_back(n);
        }
    }
    const std::int64_t wanted = count - 1;
    if (wanted < static_cast<std::int64_t>(starts.size())) {
        std::nth_element(starts.begin(), starts.begin() + wanted, starts.end(),
                         [&](std::int64_t a, std::int64_t b) {
                             const auto gap_a = gap_before(times, a), gap_b = gap_before(times, b);
                             return gap_a != gap_b ? gap_a > gap_b : a < b;
                         });
        starts.resize(static_cast<std::size_t>(wanted));
        std::sort(starts.begin(), starts.end());
    }
}

}  // namespace

template <class Time>
SegmentCuts cut_segments_cpu(const SegmentCutArgs<Time>& args) {
    SegmentCuts cuts;
    cuts.sequence_offsets.push_back(0);
    std::vector<std::int64_t> starts;
    for (std::int64_t b = 0; b < args.batch; ++b) {
        const std::int64_t first = args.offsets[b], last = args.offsets[b + 1];
        if (first < last) {
            cuts.offsets.push_back(first);
        }
        switch (args.rule) {
            case SegmentRule::window:
                // Written so that no sum can overflow.
                for (std::int64_t n = first; last - n > args.window;) {
                    cuts.offsets.push_back(n += args.window);
                }
                break;
            case SegmentRule::gap:
                for (std::int64_t n = first + 1; n < last; ++n) {
                    if (static_cast<double>(gap_before(args.times, n)) > args.gap) {
                        cuts.offsets.push_back(n);
                    }
                }
                break;
            case SegmentRule::top_gaps:
                largest_gaps(args.times, first, last, args.count, starts);
                cuts.offsets.insert(cuts.offsets.end(), starts.begin(), starts.end());
                break;
        }
        cuts.sequence_offsets.push_back(static_cast<std::int64_t>(cuts.offsets.size()));
    }
    cuts.offsets.push_back(args.offsets[args.batch]);
    return cuts;
}

template SegmentCuts cut_segments_cpu(const SegmentCutArgs<double>&);
template SegmentCuts cut_segments_cpu(const SegmentCutArgs<std::int64_t>&);

}  // namespace seqrec_fast
