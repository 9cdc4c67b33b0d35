// Exact top-k of q . item + bias on the CPU, for every target.
//
// Scores live in registers only. By 8-bit codes: a block of items is scanned for those that an
// error bound does not rule out, about k in all, and only they are scored (item_scan-inl.h). In
// float32: a register tile (queries x packed vectors of items) is compared with each query's floor.
// Either way the answer is made of the same scores (item_scores-inl.h).
// Bound: few queries read the codes once at the speed of memory, and only their upper halves if the
// catalogue is large; many reach the speed of the dot products, because a block stays in L1 for all
// queries of a tile.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/topk_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <vector>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "base/workspace.h"
#include "cpu/candidate_pool-inl.h"
#include "cpu/gemm-inl.h"
#include "cpu/id_filter.h"
#include "cpu/item_scan-inl.h"
#include "cpu/item_scores-inl.h"
#include "cpu/topk_kernels.h"
#include "cpu/topk_plan.h"
#include "cpu/topk_selection.h"

#ifndef SEQREC_CPU_TOPK_CPU_ONCE_
#define SEQREC_CPU_TOPK_CPU_ONCE_
namespace seqrec_fast {

// A tile of queries against the blocks [begin, end), or against a list of allowed ids.
struct TopkTask {
    const TopkArgs* args;
    std::int64_t first_query, n_rows;
    std::int64_t begin, end;
    bool upper_codes;
    std::atomic<float>* shared_floors;  // of the tile's queries; null: nobody shares them
    TopkSelection* selection;
};

}  // namespace seqrec_fast
#endif  // SEQREC_CPU_TOPK_CPU_ONCE_

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

class TopkTile {
  public:
    explicit TopkTile(const TopkTask& task)
        : task_(task),
          items_(*task.args->items),
          selection_(*task.selection),
          queries_(task.args->queries + task.first_query * items_.dim),
          candidates_(items_, queries_),
          has_filters_(task.args->excluded.offsets != nullptr ||
                       task.args->allowed.bits != nullptr) {
        filters().assign(items_, task.args->excluded, task.args->allowed, task.first_query,
                         task.n_rows);
    }

    void scan_codes() {
        const DotSession session(DotType::int8, task_.n_rows);
        Workspace& workspace = scan_workspace();
        workspace.reserve(ItemScan::bytes(items_.dim, task_.n_rows) +
                          2 * Workspace::bytes_for<std::int64_t>(task_.n_rows + kRowsAtOnce) +
                          CandidatePool::bytes(selection_.k, task_.n_rows));
        ItemScan scan(items_, queries_, task_.n_rows,
                      task_.upper_codes ? CodeBits::upper : CodeBits::all, workspace);
        auto* const hits = workspace.take<std::uint64_t>(task_.n_rows + kRowsAtOnce);
        auto* const hit_rows = workspace.take<std::int64_t>(task_.n_rows + kRowsAtOnce);
        std::fill_n(hits, task_.n_rows + kRowsAtOnce, 0);
        CandidatePool pool(selection_.k, task_.n_rows, workspace);
        std::int64_t n_skipped = 0;
        for (std::int64_t block = task_.begin; block < task_.end; ++block) {
            read_shared_floors();
            if (!scan.may_reach(block, selection_.floors, hits)) {
                ++n_skipped;
                continue;
            }
            const std::int64_t n = rows_hit(hits, task_.n_rows, hit_rows);
            for (std::int64_t i = 0; i < n; ++i) {
                const std::int64_t r = hit_rows[i];
                each_hit(block, hits[r], [&](std::int64_t position) {
                    if (task_.upper_codes) {
                        consider(r, position);  // their bounds are too wide to wait
                    } else {
                        collect(scan.range(block, r, position % kItemBlock), r, position, pool);
                    }
                });
            }
            candidates_.settle(Offer{*this});
        }
        for (std::int64_t r = 0; r < task_.n_rows; ++r) {
            pool.tighten(r, selection_.floors[r]);
            pool.take(r, [&](std::int64_t position) { consider(r, position); });
        }
        finish(task_.end - task_.begin, n_skipped);
    }

    void scan_vectors() {
        Workspace& workspace = scan_workspace();
        workspace.reserve(Workspace::bytes_for<float>(items_.dim * kItemBlock) +
                          Workspace::bytes_for<const float*>(task_.n_rows) +
                          Workspace::bytes_for<double>(task_.n_rows));
        float* const room = workspace.take<float>(items_.dim * kItemBlock);
        const float** const rows = workspace.take<const float*>(task_.n_rows);
        double* const norms = workspace.take<double>(task_.n_rows);
        for (std::int64_t r = 0; r < task_.n_rows; ++r) {
            rows[r] = queries_ + r * items_.dim;
            norms[r] = query_norm(rows[r]);
        }
        std::int64_t n_skipped = 0;
        for (std::int64_t block = task_.begin; block < task_.end; ++block) {
            read_shared_floors();
            if (items_.bounds != nullptr && !reachable(items_.bounds[block], norms)) {
                ++n_skipped;
                continue;
            }
            const float* const panel = float_panel(items_, block, room);
            const std::int64_t ahead = block + 1 < task_.end ? 1 : 0;
            const float* const next =
                items_.float_vectors == nullptr
                    ? panel
                    : items_.float_vectors + (block + ahead) * items_.dim * kItemBlock;
            multiply_panel<kMaxPanelVectors>(Part(*this, block, next), rows, task_.n_rows, panel,
                                             items_.dim);
        }
        finish(task_.end - task_.begin, n_skipped);
    }

    // The allowed ids alone: each query's own list, or the shared one.
    void score_allowed() {
        const AllowedIds& allowed = task_.args->allowed;
        thread_local IdSet ids;
        for (std::int64_t r = 0; r < task_.n_rows; ++r) {
            if (allowed.offsets != nullptr) {
                const std::int64_t* const offsets = allowed.offsets + task_.first_query + r;
                ids.assign(allowed.values + offsets[0], allowed.values + offsets[1], items_);
            } else if (r == 0) {
                ids.assign(allowed.values, allowed.values + allowed.n_values, items_);
            }
            ids.each([&](std::uint32_t id) { consider(r, items_.positions[id]); });
        }
        finish(0, 0);
    }

  private:
    // With fewer rows a panel is done so soon that the hardware's own prefetching does better,
    // unless it is first turned.
    static constexpr std::int64_t kPrefetchRows = 16;
    using D = Lanes<float>;
    using V = hn::Vec<D>;

    struct Offer {
        HWY_INLINE void operator()(std::int64_t row, std::int64_t position, float score) const {
            tile.offer(row, position, score);
        }
        TopkTile& tile;
    };

    // Tiles of float32 sums, for gemm-inl.h.
    struct Part : ItemTile {
        Part(TopkTile& of, std::int64_t block, const float* next)
            : ItemTile(of.items_, block), tile(of), next_panel(next) {}

        template <int kVectors>
        HWY_INLINE void init(std::int64_t row, std::int64_t lane, V (&acc)[kVectors]) const {
            ItemTile::init(row, lane, acc);
            if (lane == 0 && (tile.task_.n_rows >= kPrefetchRows || tile.items_.by_rows())) {
                prefetch_share(row, tile.items_.dim * kVectors);
            }
        }
        // Each row asks for its share of the next panel's cache lines, so that they come evenly
        // while this panel is computed with.
        HWY_INLINE void prefetch_share(std::int64_t row, std::int64_t lines) const {
            const std::int64_t end = (row + 1) * lines / tile.task_.n_rows;
            for (std::int64_t line = row * lines / tile.task_.n_rows; line < end; ++line) {
                __builtin_prefetch(next_panel + line * kPackedLanes<float>, 0, 2);
            }
        }
        template <int kRows, int kSlices, int kVectors>
        HWY_INLINE bool wanted(std::int64_t row0, std::int64_t lane,
                               const V (&acc)[kRows][kSlices][kVectors]) const {
            const D d;
            auto any = hn::FirstN(d, 0);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                const V floor = hn::Set(d, tile.selection_.floors[row0 + r]);
#pragma GCC unroll 8
                for (int s = 0; s < kSlices; ++s) {
#pragma GCC unroll 8
                    for (int v = 0; v < kVectors; ++v) {
                        const std::int64_t first = item(v, lane + s * lane_count<float>());
                        any = hn::Or(any, hn::Ge(score(acc[r][s][v], first), floor));
                    }
                }
            }
            return HWY_UNLIKELY(!hn::AllFalse(d, any));
        }
        template <int kVectors>
        HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                               const V (&acc)[kVectors]) const {
            each(lane, acc,
                 [&](std::int64_t position, float value) { tile.offer(row, position, value); });
        }

        TopkTile& tile;
        const float* next_panel;
    };

    static Workspace& scan_workspace() {
        thread_local Workspace workspace;
        return workspace;
    }
    static IdFilters& filters() {
        thread_local IdFilters filters;
        return filters;
    }

    double query_norm(const float* query) const {
        double sum = 0;
        for (std::int64_t k = 0; k < items_.dim; ++k) {
            sum += static_cast<double>(query[k]) * static_cast<double>(query[k]);
        }
        return std::sqrt(sum);
    }
    // Whether an item of the block can reach the floor of any query, by Cauchy-Schwarz; with room
    // for the rounding of the float32 chain. NaN can.
    bool reachable(const BlockBounds& bounds, const double* norms) const {
        const double more = 1 + static_cast<double>(items_.dim + 4) * 0x1p-22;
        for (std::int64_t r = 0; r < task_.n_rows; ++r) {
            const double most = (norms[r] * bounds.norm + bounds.bias) * more + 1e-37;
            if (!(most < static_cast<double>(selection_.floors[r])) || !(most < 1e37)) {
                return true;
            }
        }
        return false;
    }
    void read_shared_floors() {
        for (std::int64_t r = 0; task_.shared_floors != nullptr && r < task_.n_rows; ++r) {
            const float shared = task_.shared_floors[r].load(std::memory_order_relaxed);
            selection_.floors[r] = std::max(selection_.floors[r], shared);
        }
    }
    void raise_shared_floor(std::int64_t row) {
        if (task_.shared_floors == nullptr) {
            return;
        }
        const float floor = selection_.floors[row];
        float shared = task_.shared_floors[row].load(std::memory_order_relaxed);
        while (shared < floor && !task_.shared_floors[row].compare_exchange_weak(
                                     shared, floor, std::memory_order_relaxed)) {
        }
    }
    bool passes(std::int64_t row, std::int64_t position) const {
        return filters().passes(row, static_cast<std::uint32_t>(items_.ids[position]));
    }
    // Only items that may be in the answer prove anything of its floor.
    HWY_INLINE void collect(ItemScan::Range range, std::int64_t row, std::int64_t position,
                            CandidatePool& pool) {
        if (range.upper < selection_.floors[row] || (has_filters_ && !passes(row, position)) ||
            !pool.add(row, position, range.lower, range.upper)) {
            return;
        }
        const bool too_many = pool.tighten(row, selection_.floors[row]);
        raise_shared_floor(row);
        if (too_many) {
            pool.take(row, [&](std::int64_t p) { consider(row, p); });
        }
    }
    HWY_INLINE void consider(std::int64_t row, std::int64_t position) {
        if (task_.args->allowed.bits != nullptr && !passes(row, position)) {
            return;
        }
        ++n_candidates_;
        candidates_.put(row, position, [this](std::int64_t r, std::int64_t p, float score) {
            offer(r, p, score);
        });
    }
    void offer(std::int64_t row, std::int64_t position, float score) {
        if (!(score >= selection_.floors[row])) {
            return;  // before its id is fetched
        }
        const auto id = static_cast<std::uint32_t>(items_.ids[position]);
        if (selection_.wants(row, score, id) && filters().passes(row, id) &&
            selection_.add(row, score, id)) {
            raise_shared_floor(row);
        }
    }
    void finish(std::int64_t n_blocks, std::int64_t n_skipped) {
        candidates_.score(Offer{*this});
        TopkStatistics& statistics = *task_.args->statistics;
        statistics.candidates.fetch_add(n_candidates_, std::memory_order_relaxed);
        statistics.blocks_scanned.fetch_add(n_blocks - n_skipped, std::memory_order_relaxed);
        statistics.blocks_skipped.fetch_add(n_skipped, std::memory_order_relaxed);
    }

    const TopkTask& task_;
    const PackedItems& items_;
    TopkSelection& selection_;
    const float* queries_;
    Candidates candidates_;
    const bool has_filters_;
    std::int64_t n_candidates_ = 0;
};

void topk_tile(const TopkTask& task) {
    TopkTile tile(task);
    if (task.args->allowed.values != nullptr) {
        tile.score_allowed();
    } else if (task.args->items->has_codes()) {
        tile.scan_codes();
    } else {
        tile.scan_vectors();
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
namespace {
SEQREC_DISPATCH_TABLE(kTile, topk_tile);

void write_answer(const TopkArgs& args, std::int64_t query, const std::uint64_t* keys,
                  std::int64_t count) {
    float* const scores = args.scores + query * args.k;
    std::int64_t* const ids = args.ids + query * args.k;
    for (std::int64_t i = 0; i < count; ++i) {
        scores[i] = candidate_score(keys[i]);
        ids[i] = candidate_id(keys[i]) + args.items->id_offset;
    }
    std::fill(scores + count, scores + args.k, -std::numeric_limits<float>::infinity());
    std::fill(ids + count, ids + args.k, -1);
}

void run_task(const TopkArgs& args, const TopkPlan& plan, std::int64_t tile, std::int64_t range,
              PartialAnswers* partial) {
    const std::int64_t first = tile * plan.tile_rows;
    const std::int64_t n_rows = std::min(plan.tile_rows, args.n_queries - first);
    Workspace& workspace = thread_workspace();
    workspace.reserve(Workspace::bytes_for<float>(n_rows) +
                      Workspace::bytes_for<std::uint64_t>(n_rows) +
                      Workspace::bytes_for<std::int64_t>(n_rows) +
                      Workspace::bytes_for<std::uint64_t>(n_rows * plan.capacity));
    TopkSelection selection{plan.k,
                            plan.capacity,
                            workspace.take<float>(n_rows),
                            workspace.take<std::uint64_t>(n_rows),
                            workspace.take<std::int64_t>(n_rows),
                            workspace.take<std::uint64_t>(n_rows * plan.capacity)};
    selection.clear(n_rows);
    const std::int64_t n_blocks = args.items->n_blocks();
    if (n_blocks > 0) {
        kTile[active_target()]({&args, first, n_rows, n_blocks * range / plan.n_ranges,
                                n_blocks * (range + 1) / plan.n_ranges, plan.upper_codes,
                                partial == nullptr ? nullptr : partial->floors.data() + first,
                                &selection});
    }
    for (std::int64_t r = 0; r < n_rows; ++r) {
        const std::int64_t count = selection.finish(r);
        const std::uint64_t* const best = selection.keys + r * plan.capacity;
        if (partial == nullptr) {
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
    args.statistics->queries.fetch_add(args.n_queries, std::memory_order_relaxed);
    const TopkPlan plan(args);
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
