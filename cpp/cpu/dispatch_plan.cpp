#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "cpu/dispatch_kernels.h"

namespace seqrec_fast {
namespace {

// Sequences of one task.
constexpr std::int64_t kSequences = 16;

template <class Visit>
void for_sequences(std::int64_t batch, const Visit& visit) {
    parallel_for((batch + kSequences - 1) / kSequences, [&](std::int64_t task) {
        visit(task * kSequences, std::min(batch, (task + 1) * kSequences));
    });
}

std::size_t size(std::int64_t n) {
    return static_cast<std::size_t>(n);
}

}  // namespace

std::int64_t dispatch_offsets_cpu(const DispatchPlanArgs& args, std::int64_t* offsets) {
    const std::int64_t batch = args.batch, n_parts = args.experts * batch;
    std::atomic<std::int64_t> repeated{-1};
    for_sequences(batch, [&](std::int64_t first, std::int64_t last) {
        std::vector<std::int64_t> counts(size(args.experts)), chosen_by(size(args.experts), -1);
        for (std::int64_t b = first; b < last; ++b) {
            std::fill(counts.begin(), counts.end(), 0);
            for (std::int64_t n = args.offsets[b]; n < args.offsets[b + 1]; ++n) {
                for (std::int64_t slot = n * args.k; slot < (n + 1) * args.k; ++slot) {
                    const std::int64_t expert = args.expert_ids[slot];
                    if (expert < 0) {
                        continue;
                    }
                    ++counts[size(expert)];
                    if (args.k > 1 && std::exchange(chosen_by[size(expert)], n) == n) {
                        repeated = slot;
                    }
                }
            }
            for (std::int64_t m = 0; m < args.experts; ++m) {
                const std::int64_t count = counts[size(m)];
                offsets[m * batch + b + 1] =
                    args.capacity < 0 ? count : std::min(count, args.capacity);
            }
        }
    });
    offsets[0] = 0;
    for (std::int64_t i = 0; i < n_parts; ++i) {
        offsets[i + 1] += offsets[i];
    }
    return repeated;
}

void dispatch_plan_cpu(const DispatchPlanArgs& args, const DispatchPlan& plan) {
    const std::int64_t batch = args.batch;
    for_sequences(batch, [&](std::int64_t first, std::int64_t last) {
        // From the newest event to the oldest, so that those without room are the oldest.
        std::vector<std::int64_t> begin(size(args.experts)), next(size(args.experts));
        for (std::int64_t b = first; b < last; ++b) {
            for (std::int64_t m = 0; m < args.experts; ++m) {
                begin[size(m)] = plan.offsets[m * batch + b];
                next[size(m)] = plan.offsets[m * batch + b + 1];
            }
            for (std::int64_t n = args.offsets[b + 1] - 1; n >= args.offsets[b]; --n) {
                for (std::int64_t slot = n * args.k; slot < (n + 1) * args.k; ++slot) {
                    const std::int64_t expert = args.expert_ids[slot];
                    std::int64_t row = -1;
                    if (expert >= 0 && next[size(expert)] > begin[size(expert)]) {
                        row = --next[size(expert)];
                        plan.index[row] = n;
                        plan.slot[row] = slot;
                    }
                    plan.position[slot] = row;
                }
            }
        }
    });
}

}  // namespace seqrec_fast
