// Exact top-k of q . item + bias on the CPU, for every target.
//
// Scores live in registers only: a register tile (queries x packed vectors of items) is compared
// with each query's floor, and leaves the registers only if one of its scores can still matter.
// Numerics: the score is the register tile's chain of fused multiply-adds in the order of the
// terms, the bias last; so it depends on the query and the item alone.
// Bound: few queries read the catalogue once at the speed of memory; many reach that of the
// multiply-adds, because a panel stays in L1 for all queries of a tile while the next one comes.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/topk_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <vector>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "base/workspace.h"
#include "cpu/gemm-inl.h"
#include "cpu/topk_kernels.h"
#include "cpu/topk_selection.h"

#ifndef SEQREC_CPU_TOPK_CPU_ONCE_
#define SEQREC_CPU_TOPK_CPU_ONCE_
namespace seqrec_fast {

// A tile of queries against the panels [begin, end).
struct TopkScan {
    const PackedPanels<float>* panels;
    std::int64_t begin, end;
    const float* const* rows;
    std::int64_t n_rows;
    TopkSelection* selection;
};

}  // namespace seqrec_fast
#endif  // SEQREC_CPU_TOPK_CPU_ONCE_

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// With fewer rows a panel is done so soon that the hardware's own prefetching does better.
constexpr std::int64_t kPrefetchRows = 16;

struct TopkOp {
    using D = Lanes<float>;
    using V = hn::Vec<D>;

    struct Part {
        static constexpr bool kSelects = true;

        template <int kVectors>
        HWY_INLINE void init(std::int64_t row, std::int64_t lane, V (&acc)[kVectors]) const {
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) {
                acc[v] = hn::Zero(D());
            }
            if (lane == 0 && scan.n_rows >= kPrefetchRows) {
                prefetch_share(row, scan.panels->depth() * kVectors);
            }
        }
        // Each row asks for its share of the next panel's cache lines, so that they come evenly
        // while this panel is computed with.
        HWY_INLINE void prefetch_share(std::int64_t row, std::int64_t lines) const {
            const std::int64_t end = (row + 1) * lines / scan.n_rows;
            for (std::int64_t line = row * lines / scan.n_rows; line < end; ++line) {
                __builtin_prefetch(next_panel + line * kPackedLanes<float>, 0, 2);
            }
        }
        template <int kRows, int kSlices, int kVectors>
        HWY_INLINE bool wanted(std::int64_t row0, const V (&acc)[kRows][kSlices][kVectors]) const {
            const D d;
            auto any = hn::FirstN(d, 0);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                const V floor = hn::Set(d, scan.selection->floors[row0 + r]);
#pragma GCC unroll 8
                for (int s = 0; s < kSlices; ++s) {
#pragma GCC unroll 8
                    for (int v = 0; v < kVectors; ++v) {
                        any = hn::Or(any, hn::Ge(acc[r][s][v], floor));
                    }
                }
            }
            return HWY_UNLIKELY(!hn::AllFalse(d, any));
        }
        template <int kVectors>
        HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                               const V (&acc)[kVectors]) const {
            const D d;
            alignas(kCacheLine) float scores[lane_count<float>()];
            for (int v = 0; v < kVectors; ++v) {
                const auto survives = hn::Ge(acc[v], hn::Set(d, scan.selection->floors[row]));
                if (hn::AllFalse(d, survives)) {
                    continue;
                }
                std::uint8_t bytes[8] = {};
                hn::StoreMaskBits(d, survives, bytes);
                hn::Store(acc[v], d, scores);
                std::uint32_t bits;
                std::memcpy(&bits, bytes, sizeof(bits));
                const std::int64_t id = first_item + v * kPackedLanes<float> + lane;
                for (; bits != 0; bits &= bits - 1) {
                    const int i = __builtin_ctz(bits);
                    scan.selection->offer(row, scores[i], static_cast<std::uint32_t>(id + i),
                                          static_cast<std::uint32_t>(first_item));
                }
            }
        }

        const TopkScan& scan;
        std::int64_t first_item;
        const float* next_panel;
    };
    HWY_INLINE Part part(std::int64_t block) const {
        const std::int64_t next = std::min(block / kMaxPanelVectors + 1, scan.end - 1);
        return Part{scan, block * kPackedLanes<float>, scan.panels->panel(next)};
    }

    const TopkScan& scan;
};

void topk_scan(const TopkScan& scan) {
    multiply_plain(TopkOp{scan}, scan.rows, scan.n_rows, *scan.panels, scan.begin, scan.end);
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
namespace {
SEQREC_DISPATCH_TABLE(kScan, topk_scan);

// How a call is split into tasks: tiles of queries times ranges of panels. Tiles come first, since
// every range selects anew, which costs about as much as scoring some ten thousand items.
struct Plan {
    Plan(const TopkArgs& args)
        : k(std::min(args.k, args.items->n_items())),
          capacity(TopkSelection::capacity_for(k, args.items->n_items())) {
        constexpr std::int64_t kMaxTileRows = 64;        // queries and a panel share L1 and L2
        constexpr std::int64_t kMaxTileKeys = 1 << 21;   // 16 MiB of reservoirs
        constexpr std::int64_t kMinTileRows = 24;        // fewer read the catalogue too often
        constexpr std::int64_t kMinRangeWork = 1 << 21;  // multiply-adds per query
        const std::int64_t most = std::clamp<std::int64_t>(
            kMaxTileKeys / std::max<std::int64_t>(1, capacity), 1, kMaxTileRows);
        const std::int64_t threads = num_threads();
        const std::int64_t fewest = (args.n_queries + most - 1) / most;
        const std::int64_t even = (fewest + threads - 1) / threads * threads;
        n_tiles = std::max(fewest, std::min(even, args.n_queries / kMinTileRows));
        tile_rows = (args.n_queries + n_tiles - 1) / n_tiles;
        n_tiles = (args.n_queries + tile_rows - 1) / tile_rows;
        const std::int64_t wanted = threads == 1 ? 1 : (2 * threads + n_tiles - 1) / n_tiles;
        const std::int64_t work = args.items->n_items() * args.items->panels().depth();
        n_ranges = std::clamp<std::int64_t>(work / kMinRangeWork, 1, wanted);
    }

    std::int64_t k, capacity;
    std::int64_t n_tiles, tile_rows, n_ranges;
};

void write_answer(const TopkArgs& args, std::int64_t query, const std::uint64_t* keys,
                  std::int64_t count) {
    float* const scores = args.scores + query * args.k;
    std::int64_t* const ids = args.ids + query * args.k;
    for (std::int64_t i = 0; i < count; ++i) {
        scores[i] = candidate_score(keys[i]);
        ids[i] = candidate_id(keys[i]);
    }
    std::fill(scores + count, scores + args.k, -std::numeric_limits<float>::infinity());
    std::fill(ids + count, ids + args.k, -1);
}

// The best keys of each query in each range, when there are several ranges.
struct PartialAnswers {
    PartialAnswers(const TopkArgs& args, const Plan& plan)
        : k(plan.k),
          n_ranges(plan.n_ranges),
          keys(static_cast<std::size_t>(args.n_queries * n_ranges * k)),
          counts(static_cast<std::size_t>(args.n_queries * n_ranges)) {}

    void put(std::int64_t query, std::int64_t range, const std::uint64_t* best,
             std::int64_t count) {
        const std::int64_t part = query * n_ranges + range;
        counts[static_cast<std::size_t>(part)] = count;
        std::copy_n(best, count, keys.data() + part * k);
    }
    // Moves the keys of all ranges of a query together; returns the first and the number kept.
    std::uint64_t* merge(std::int64_t query, std::int64_t* count) {
        std::uint64_t* const first = keys.data() + query * n_ranges * k;
        std::uint64_t* last = first;
        for (std::int64_t range = 0; range < n_ranges; ++range) {
            last = std::copy_n(first + range * k,
                               counts[static_cast<std::size_t>(query * n_ranges + range)], last);
        }
        *count = std::min<std::int64_t>(k, last - first);
        std::partial_sort(first, first + *count, last, std::greater<>());
        return first;
    }

    std::int64_t k, n_ranges;
    AlignedBuffer<std::uint64_t> keys;
    std::vector<std::int64_t> counts;
};

// Pointers to the queries of a tile; with a bias, to copies that end with the factor 1.
void gather_queries(const TopkArgs& args, std::int64_t first, std::int64_t n_rows, float* copies,
                    const float** rows) {
    const std::int64_t dim = args.items->dim();
    for (std::int64_t r = 0; r < n_rows; ++r) {
        const float* query = args.queries + (first + r) * dim;
        if (args.items->has_bias()) {
            float* const copy = copies + r * (dim + 1);
            std::copy_n(query, dim, copy);
            copy[dim] = 1.0f;
            query = copy;
        }
        rows[r] = query;
    }
}

void run_task(const TopkArgs& args, const Plan& plan, std::int64_t tile, std::int64_t range,
              PartialAnswers* partial) {
    const std::int64_t first = tile * plan.tile_rows;
    const std::int64_t n_rows = std::min(plan.tile_rows, args.n_queries - first);
    const PackedPanels<float>& panels = args.items->panels();
    Workspace& workspace = thread_workspace();
    workspace.reserve(
        Workspace::bytes_for<float>(n_rows * panels.depth()) +
        Workspace::bytes_for<const float*>(n_rows) + Workspace::bytes_for<float>(n_rows) +
        Workspace::bytes_for<std::int64_t>(n_rows) + Workspace::bytes_for<ExcludedIds>(n_rows) +
        Workspace::bytes_for<std::uint64_t>(n_rows * plan.capacity));
    float* const copies = workspace.take<float>(n_rows * panels.depth());
    const float** const rows = workspace.take<const float*>(n_rows);
    float* const floors = workspace.take<float>(n_rows);
    std::int64_t* const counts = workspace.take<std::int64_t>(n_rows);
    ExcludedIds* const excluded = workspace.take<ExcludedIds>(n_rows);
    std::uint64_t* const keys = workspace.take<std::uint64_t>(n_rows * plan.capacity);
    gather_queries(args, first, n_rows, copies, rows);
    for (std::int64_t r = 0; r < n_rows; ++r) {
        excluded[r] = {};
        if (args.excluded != nullptr) {
            excluded[r] = {args.excluded + args.exclude_offsets[first + r],
                           args.excluded + args.exclude_offsets[first + r + 1]};
        }
    }
    TopkSelection selection{plan.k, plan.capacity, floors, counts, excluded, keys};
    selection.clear(n_rows);
    const std::int64_t n_panels = panels.n_panels();
    kScan[active_target()](TopkScan{&panels, range * n_panels / plan.n_ranges,
                                    (range + 1) * n_panels / plan.n_ranges, rows, n_rows,
                                    &selection});
    for (std::int64_t r = 0; r < n_rows; ++r) {
        const std::int64_t count = selection.finish(r);
        const std::uint64_t* const best = keys + r * plan.capacity;
        if (plan.n_ranges == 1) {
            write_answer(args, first + r, best, count);
        } else {
            partial->put(first + r, range, best, count);
        }
    }
}

}  // namespace

void topk_cpu(const TopkArgs& args) {
    if (args.n_queries == 0) {
        return;
    }
    const Plan plan(args);
    if (plan.n_ranges == 1) {
        parallel_for(plan.n_tiles,
                     [&](std::int64_t tile) { run_task(args, plan, tile, 0, nullptr); });
        return;
    }
    PartialAnswers partial(args, plan);
    parallel_for(plan.n_tiles * plan.n_ranges, [&](std::int64_t task) {
        run_task(args, plan, task / plan.n_ranges, task % plan.n_ranges, &partial);
    });
    parallel_for(args.n_queries, [&](std::int64_t query) {
        std::int64_t count;
        const std::uint64_t* const best = partial.merge(query, &count);
        write_answer(args, query, best, count);
    });
}

}  // namespace seqrec_fast
#endif  // HWY_ONCE
