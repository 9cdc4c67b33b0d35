// What the backward pass of the cross-entropy on tensor cores knows of its block's vectors and of
// those that pass: one interface for both directions, `About` of TensorTiles::each and
//     begin_tile(tile, stage)        whether a target may be among the warp's entries of the tile
//     is_target, bias, log_sum, factor(stage, part, i)   of an entry, see TensorShape
//     last_factor(half)              of what is summed for one of the thread's vectors
#pragma once

#include <cstdint>

#include "cuda/cross_entropy_tensor.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

// A block has rows; items pass.
template <class Shape>
class RowSide {
  public:
    static constexpr std::size_t kBytes = TileBias<Shape>::kBytes;
    static constexpr bool kSumsBias = false;

    SEQREC_FN RowSide(const CrossEntropyArgs<float>& args, std::int64_t first_row, void* shared)
        : args_(args), first_row_(first_row), bias_(args, shared) {
        SEQREC_UNROLL
        for (int half = 0; half < 2; ++half) {
            const std::int64_t row = first_row + Shape::fixed(half);
            target_[half] = row < args.rows ? static_cast<int>(args.target[row]) : -1;
            const bool counts = target_[half] >= 0;
            log_sum_[half] = counts ? args.log_sum[row] : kInfinity;
        }
    }

    SEQREC_FN void fetch(int tile) { bias_.fetch(tile); }
    SEQREC_FN void put(int stage) const { bias_.put(stage); }
    // Whether a target of the warp's rows is in the tile; every lane takes part.
    SEQREC_FN bool begin_tile(int tile, int) {
        bool any = false;
        SEQREC_UNROLL
        for (int half = 0; half < 2; ++half) {
            own_[half] = target_[half] - tile * Shape::kStream;
            any = any || (own_[half] >= 0 && own_[half] < Shape::kStream && target_[half] >= 0);
        }
        return __any_sync(kAllLanes, any);
    }
    SEQREC_FN bool is_target(int, int part, int i) const {
        return Shape::column(part, i) == own_[i / 2];
    }
    SEQREC_FN float bias(int stage, int part, int i) const {
        return bias_.at(stage, Shape::column(part, i));
    }
    SEQREC_FN float log_sum(int, int, int i) const { return log_sum_[i / 2]; }
    // A row's gradient is a factor of all that the block sums for it.
    SEQREC_FN float factor(int, int, int) const { return 1; }
    SEQREC_FN float last_factor(int half) const {
        return target_[half] >= 0 ? args_.row_grad[first_row_ + Shape::fixed(half)] : 0.0F;
    }

  private:
    const CrossEntropyArgs<float>& args_;
    std::int64_t first_row_;
    TileBias<Shape> bias_;
    int target_[2], own_[2];  // of all items, of the tile's
    float log_sum_[2];
};

// A block has items; rows pass.
template <class Shape>
class ItemSide {
    static constexpr int kStream = Shape::kStream, kWarps = kStream / kWarp;

    struct Stage {
        float log_sum[kStream], factor[kStream];
        int target[kStream];  // which of the block's items; -1: none
        unsigned has_target[kWarps];
    };

  public:
    static constexpr std::size_t kBytes = 2 * sizeof(Stage);
    static constexpr bool kSumsBias = true;

    SEQREC_FN ItemSide(const CrossEntropyArgs<float>& args, std::int64_t first_item, void* shared)
        : args_(args), first_item_(first_item), stages_(static_cast<Stage*>(shared)) {
        SEQREC_UNROLL
        for (int half = 0; half < 2; ++half) {
            const std::int64_t item = first_item + Shape::fixed(half);
            bias_[half] = item >= args.items     ? -kInfinity
                          : args.bias == nullptr ? 0.0F
                                                 : args.bias[item];
        }
    }

    SEQREC_FN void fetch(int tile) {
        const std::int64_t row = std::int64_t{tile} * kStream + Shape::thread();
        if (Shape::thread() < kStream) {
            const std::int64_t target = row < args_.rows ? args_.target[row] : -1;
            const std::int64_t own = target - first_item_;
            next_target_ =
                own >= 0 && own < Shape::kFixed && target >= 0 ? static_cast<int>(own) : -1;
            next_log_sum_ = target >= 0 ? args_.log_sum[row] : kInfinity;
            next_factor_ = target >= 0 ? args_.row_grad[row] : 0.0F;
        }
    }
    SEQREC_FN void put(int stage) const {
        const int i = Shape::thread();
        if (i < kStream) {  // whole warps
            Stage& to = stages_[stage];
            to.log_sum[i] = next_log_sum_;
            to.factor[i] = next_factor_;
            to.target[i] = next_target_;
            const unsigned any = __ballot_sync(kAllLanes, next_target_ >= 0);
            if (lane_index() == 0) {
                to.has_target[i / kWarp] = any;
            }
        }
    }
    SEQREC_FN bool begin_tile(int, int stage) const {
        unsigned any = 0;
        SEQREC_UNROLL
        for (int i = 0; i < kWarps; ++i) {
            any |= stages_[stage].has_target[i];
        }
        return any != 0;
    }
    SEQREC_FN bool is_target(int stage, int part, int i) const {
        return stages_[stage].target[Shape::column(part, i)] == Shape::fixed(i / 2);
    }
    SEQREC_FN float bias(int, int, int i) const { return bias_[i / 2]; }
    SEQREC_FN float log_sum(int stage, int part, int i) const {
        return stages_[stage].log_sum[Shape::column(part, i)];
    }
    SEQREC_FN float factor(int stage, int part, int i) const {
        return stages_[stage].factor[Shape::column(part, i)];
    }
    SEQREC_FN float last_factor(int) const { return 1; }

  private:
    const CrossEntropyArgs<float>& args_;
    std::int64_t first_item_;
    Stage* stages_;
    float bias_[2], next_log_sum_ = 0, next_factor_ = 0;
    int next_target_ = -1;
};

}  // namespace cuda
}  // namespace seqrec_fast
