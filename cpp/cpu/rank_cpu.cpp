// How many items score above and beside a given one, on the CPU, for every target.
//
// Nothing is sorted. By 8-bit codes a block is scanned twice: for the items whose score is
// certainly greater than the target's, which are counted by their bits, and for those that may
// reach it, which are scored. In float32 the register tiles count.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rank_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <mutex>
#include <vector>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "base/workspace.h"
#include "cpu/gemm-inl.h"
#include "cpu/id_filter.h"
#include "cpu/item_scan-inl.h"
#include "cpu/item_scores-inl.h"
#include "cpu/topk_kernels.h"

#ifndef SEQREC_CPU_RANK_CPU_ONCE_
#define SEQREC_CPU_RANK_CPU_ONCE_
namespace seqrec_fast {

struct RankCounts {
    std::int64_t greater = 0, equal = 0, before = 0;
};

// A tile of queries against the blocks [begin, end).
struct RankTask {
    const RankArgs* args;
    std::int64_t first_query, n_rows;
    std::int64_t begin, end;
    bool excludes;       // takes the excluded items off the counts
    RankCounts* counts;  // (n_rows)
};

}  // namespace seqrec_fast
#endif  // SEQREC_CPU_RANK_CPU_ONCE_

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

class RankTile {
  public:
    explicit RankTile(const RankTask& task)
        : task_(task),
          items_(*task.args->items),
          queries_(task.args->queries + task.first_query * items_.dim),
          candidates_(items_, queries_),
          floors_(static_cast<std::size_t>(task.n_rows)) {
        for (std::int64_t r = 0; r < task.n_rows; ++r) {
            candidates_.put(r, items_.positions[target(r)], [this](auto... args) { own(args...); });
        }
        candidates_.score([this](auto... args) { own(args...); });
    }

    void run() {
        if (items_.has_codes()) {
            scan_codes();
        } else {
            scan_vectors();
        }
        if (task_.excludes) {
            leave_out_excluded();
        }
    }

  private:
    using D = Lanes<float>;
    using V = hn::Vec<D>;

    // Tiles of float32 sums, for gemm-inl.h: all is counted in the registers, except ties.
    struct Part : ItemTile {
        Part(RankTile& of, std::int64_t block) : ItemTile(of.items_, block), tile(of) {}

        template <int kRows, int kSlices, int kVectors>
        HWY_INLINE bool wanted(std::int64_t row0, std::int64_t lane,
                               const V (&acc)[kRows][kSlices][kVectors]) const {
            const D d;
            auto ties = hn::FirstN(d, 0);
            for (int r = 0; r < kRows; ++r) {
                const V own = hn::Set(d, tile.floor(row0 + r));
                std::size_t greater = 0;
                for (int s = 0; s < kSlices; ++s) {
                    for (int v = 0; v < kVectors; ++v) {
                        const std::int64_t first = item(v, lane + s * lane_count<float>());
                        const V value = score(acc[r][s][v], first);
                        greater += hn::CountTrue(d, hn::Gt(value, own));
                        ties = hn::Or(ties, hn::Eq(value, own));
                    }
                }
                tile.task_.counts[row0 + r].greater += static_cast<std::int64_t>(greater);
            }
            return HWY_UNLIKELY(!hn::AllFalse(d, ties));
        }
        template <int kVectors>
        HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                               const V (&acc)[kVectors]) const {
            each(lane, acc, [&](std::int64_t position, float value) {
                if (value == tile.floor(row)) {
                    tile.count(row, position, value, 1);
                }
            });
        }

        RankTile& tile;
    };

    std::int64_t target(std::int64_t row) const {
        return task_.args->targets[task_.first_query + row] - items_.id_offset;
    }
    float floor(std::int64_t row) const { return floors_[static_cast<std::size_t>(row)]; }
    void own(std::int64_t row, std::int64_t, float score) {
        floors_[static_cast<std::size_t>(row)] = score;
    }
    void count(std::int64_t row, std::int64_t position, float score, std::int64_t step) {
        RankCounts& counts = task_.counts[row];
        if (score > floor(row)) {
            counts.greater += step;
        } else if (score == floor(row) && items_.ids[position] != target(row)) {
            counts.equal += step;
            counts.before += items_.ids[position] < target(row) ? step : 0;
        }
    }
    void scan_codes() {
        const DotSession session(DotType::int8, task_.n_rows);
        thread_local Workspace workspace;
        workspace.reserve(ItemScan::bytes(items_.dim, task_.n_rows) +
                          2 * Workspace::bytes_for<std::uint64_t>(task_.n_rows));
        ItemScan scan(items_, queries_, task_.n_rows, CodeBits::all, workspace);
        std::uint64_t* const reach = workspace.take<std::uint64_t>(task_.n_rows);
        std::uint64_t* const exceed = workspace.take<std::uint64_t>(task_.n_rows);
        const auto tally = [this](std::int64_t r, std::int64_t p, float score) {
            count(r, p, score, 1);
        };
        for (std::int64_t block = task_.begin; block < task_.end; ++block) {
            if (!scan.may_reach(block, floors_.data(), reach)) {
                continue;
            }
            scan.certainly_exceed(block, exceed);
            for (std::int64_t r = 0; r < task_.n_rows; ++r) {
                task_.counts[r].greater += __builtin_popcountll(exceed[r]);
                each_hit(block, reach[r] & ~exceed[r],
                         [&](std::int64_t position) { candidates_.put(r, position, tally); });
            }
        }
        candidates_.score(tally);
    }
    void scan_vectors() {
        std::vector<float> room(static_cast<std::size_t>(items_.dim * kItemBlock));
        std::vector<const float*> rows;
        for (std::int64_t r = 0; r < task_.n_rows; ++r) {
            rows.push_back(queries_ + r * items_.dim);
        }
        for (std::int64_t block = task_.begin; block < task_.end; ++block) {
            multiply_panel<kMaxPanelVectors>(Part(*this, block), rows.data(), task_.n_rows,
                                             float_panel(items_, block, room.data()), items_.dim);
        }
    }
    void leave_out_excluded() {
        thread_local IdFilters filters;
        filters.assign(items_, task_.args->excluded, {}, task_.first_query, task_.n_rows);
        const auto tally = [this](std::int64_t r, std::int64_t p, float score) {
            count(r, p, score, -1);
        };
        for (std::int64_t r = 0; r < task_.n_rows; ++r) {
            filters.excluded(r).each([&](std::uint32_t id) {
                if (id == target(r)) {
                    floors_[static_cast<std::size_t>(r)] = std::numeric_limits<float>::quiet_NaN();
                } else {
                    candidates_.put(r, items_.positions[id], tally);
                }
            });
        }
        candidates_.score(tally);
        mark_unranked();
    }

  public:
    // A target without a rank.
    void mark_unranked() {
        for (std::int64_t r = 0; r < task_.n_rows; ++r) {
            if (floor(r) != floor(r)) {
                task_.counts[r].greater = std::numeric_limits<std::int64_t>::min();
            }
        }
    }

  private:
    const RankTask& task_;
    const PackedItems& items_;
    const float* queries_;
    Candidates candidates_;
    std::vector<float> floors_;
};

void rank_tile(const RankTask& task) {
    RankTile tile(task);
    tile.run();
    tile.mark_unranked();
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
namespace {
SEQREC_DISPATCH_TABLE(kTile, rank_tile);
}  // namespace

void rank_cpu(const RankArgs& args) {
    constexpr std::int64_t kMaxTileRows = 64, kMinRangeWork = 1 << 21;
    const PackedItems& items = *args.items;
    const std::int64_t n_tiles = (args.n_queries + kMaxTileRows - 1) / kMaxTileRows;
    if (n_tiles == 0) {
        return;
    }
    const std::int64_t tile_rows = (args.n_queries + n_tiles - 1) / n_tiles;
    const std::int64_t n_ranges =
        num_threads() == 1 || n_tiles >= num_threads()
            ? 1
            : std::clamp<std::int64_t>(items.n_items * items.dim / kMinRangeWork, 1,
                                       2 * num_threads());
    std::vector<RankCounts> counts(static_cast<std::size_t>(args.n_queries));
    std::mutex mutex;
    parallel_for(n_tiles * n_ranges, [&](std::int64_t task) {
        const std::int64_t first = task / n_ranges * tile_rows, range = task % n_ranges;
        const std::int64_t n_rows = std::min(tile_rows, args.n_queries - first);
        if (n_rows <= 0) {
            return;
        }
        std::vector<RankCounts> part(static_cast<std::size_t>(n_rows));
        kTile[active_target()]({&args, first, n_rows, items.n_blocks() * range / n_ranges,
                                items.n_blocks() * (range + 1) / n_ranges,
                                range == 0 && args.excluded.offsets != nullptr, part.data()});
        const std::lock_guard<std::mutex> lock(mutex);
        for (std::size_t r = 0; r < part.size(); ++r) {
            RankCounts& total = counts[static_cast<std::size_t>(first) + r];
            const bool unranked =
                part[r].greater < -items.n_items || total.greater < -items.n_items;
            total.greater = unranked ? std::numeric_limits<std::int64_t>::min()
                                     : total.greater + part[r].greater;
            total.equal += part[r].equal;
            total.before += part[r].before;
        }
    });
    for (std::int64_t q = 0; q < args.n_queries; ++q) {
        const RankCounts& total = counts[static_cast<std::size_t>(q)];
        const bool ranked = total.greater >= 0;
        args.greater[q] = ranked ? total.greater : -1;
        args.equal[q] = ranked ? total.equal : -1;
        args.before[q] = ranked ? total.before : -1;
    }
}

}  // namespace seqrec_fast
#endif  // HWY_ONCE
