// The reverse time loop of all recurrent cells: a thread runs all steps of its tile, newest first,
// without a barrier. Per step: the cell's point-wise gradients, then one product with weight_hh.
// The input gradient follows while the gates' gradients are in L1; weight gradients are sums over
// the events of many steps, see rnn_weight_grad_cpu.cpp.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rnn_backward_loop_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>
#include <cstring>

#include "base/workspace.h"
#include "cpu/dot_backends.h"
#include "cpu/rnn_backward-inl.h"
#include "cpu/rnn_noise-inl.h"
#include "cpu/rnn_tiles.h"
#include "hwy/cache_control.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
class BackwardTile {
  public:
    // `first_row`: sessions of the range before the tile.
    BackwardTile(const RnnBackwardArgs<T>& args, CellStepGrad<T> cell_step, const SessionTile& tile,
                 std::int64_t first_row)
        : args_(args),
          cell_step_(cell_step),
          weights_(*args.weights),
          tile_(tile),
          first_row_(first_row),
          stride_(std::max(padded_to_vectors<T>(weights_.state_size),
                           weights_.blocks * kPackedLanes<T>)),
          noise_(args.noise, weights_.kind, tile.rows(), stride_) {
        const std::int64_t rows = tile.rows();
        Workspace& workspace = thread_workspace();
        workspace.reserve(4 * Workspace::bytes_for<T>(rows * stride_) +
                          4 * Workspace::bytes_for<const T*>(rows) +
                          Workspace::bytes_for<std::int64_t>(rows) + noise_.bytes());
        dh_ = workspace.take<T>(rows * stride_);
        dc_ = workspace.take<T>(rows * stride_);
        c_before_ = workspace.take<T>(rows * stride_);
        work_ = workspace.take<T>(rows * stride_);
        dh_rows_ = workspace.take<const T*>(rows);
        dgates_rows_ = workspace.take<const T*>(rows);
        slots_rows_ = workspace.take<const T*>(rows);
        candidate_rows_ = workspace.take<const T*>(rows);
        events_ = workspace.take<std::int64_t>(rows);
        noise_.take(workspace);
    }

    void run() {
        const DotSession session(dot_type(weights_.precision));
        load_states();
        std::int64_t active = 0;
        for (std::int64_t s = std::min(tile_.max_steps(), args_.range->last_step) - 1;
             s >= args_.range->first_step; --s) {
            while (active < tile_.rows() && tile_.steps(active) > s) {
                ++active;
            }
            const std::int64_t first = args_.step_rows[s - args_.range->first_step] + first_row_;
            T* const slots = point_to_slots(first, active);
            load_step(s, active);
            prefetch_saved(s - 1, active);
            noise_.draw(tile_, s, active);
            noise_.split(dh_, dc_, active);
            const GradStep<T> step{&args_,
                                   &weights_,
                                   active,
                                   stride_,
                                   events_,
                                   first,
                                   dh_,
                                   dc_,
                                   c_before_,
                                   work_,
                                   dh_rows_,
                                   slots,
                                   dgates_rows_,
                                   candidate_rows_,
                                   noise_.candidate_scale(),
                                   noise_.keep_h(),
                                   s > 0 || args_.dh_0 != nullptr};
            cell_step_(step);
            noise_.join(dh_, dc_, active);
            if (args_.dx != nullptr) {
                rnn_grad_product_cpu<T>({slots_rows_, active, weights_.gates * weights_.hidden_size,
                                         &weights_.input, args_.dx, weights_.input_size, events_});
            }
            cut_at_resets(active);
        }
        store_states();
    }

  private:
    void load_states() {
        const auto bytes = static_cast<std::size_t>(tile_.rows() * stride_) * sizeof(T);
        std::memset(dh_, 0, bytes);
        std::memset(dc_, 0, bytes);
        std::memset(c_before_, 0, bytes);
        for (std::int64_t r = 0; r < tile_.rows(); ++r) {
            const std::int64_t b = tile_.session(r);
            const bool begins = tile_.steps(r) <= args_.range->last_step;
            std::copy_n((begins ? args_.dh_n : args_.dh) + b * weights_.state_size,
                        weights_.state_size, dh_ + r * stride_);
            if (args_.dc_n != nullptr) {
                std::copy_n((begins ? args_.dc_n : args_.dc) + b * weights_.hidden_size,
                            weights_.hidden_size, dc_ + r * stride_);
            }
            dh_rows_[r] = dh_ + r * stride_;
        }
    }

    void store_states() {
        T* const dh = args_.range->oldest ? args_.dh_0 : args_.dh;
        T* const dc = args_.range->oldest ? args_.dc_0 : args_.dc;
        for (std::int64_t r = 0; r < tile_.rows(); ++r) {
            const std::int64_t b = tile_.session(r);
            if (dh != nullptr) {
                std::copy_n(dh_ + r * stride_, weights_.state_size, dh + b * weights_.state_size);
            }
            if (dc != nullptr) {
                std::copy_n(dc_ + r * stride_, weights_.hidden_size, dc + b * weights_.hidden_size);
            }
        }
    }

    // Rows of the gates' gradients, from `first` on.
    T* point_to_slots(std::int64_t first, std::int64_t active) const {
        const std::int64_t hidden = weights_.hidden_size;
        const std::int64_t width = args_.dgates_stride;
        T* const slots = args_.dgates + first * width;
        for (std::int64_t r = 0; r < active; ++r) {
            slots_rows_[r] = slots + r * width;
            dgates_rows_[r] = slots_rows_[r] + first_recurrent_slot(weights_.kind) * hidden;
            candidate_rows_[r] = slots_rows_[r] + 2 * hidden;
        }
        return slots;
    }

    bool is_reset(std::int64_t event) const {
        return args_.reset != nullptr && args_.reset[event] != 0;
    }

    // Per active row: its event, the cell state it started from, and dy added to dh.
    void load_step(std::int64_t s, std::int64_t active) {
        const std::int64_t width = weights_.state_size;
        for (std::int64_t r = 0; r < active; ++r) {
            const std::int64_t event = tile_.event(r, s);
            events_[r] = event;
            if (weights_.kind == CellKind::lstm) {
                const std::int64_t before = s > 0 ? tile_.event(r, s - 1) : -1;
                load_cell_state(r, before, is_reset(event));
            }
            const T* dy = args_.dy + event * width;
            T* dh = dh_ + r * stride_;
            for (std::int64_t i = 0; i < width; ++i) {
                dh[i] += dy[i];
            }
        }
    }

    // Fetches what the forward pass saved of a step while the step after it computes.
    void prefetch_saved(std::int64_t s, std::int64_t active) const {
        const std::int64_t width = saved_count(weights_.kind) * weights_.blocks * kPackedLanes<T>;
        for (std::int64_t r = 0; r < active && s >= 0; ++r) {
            const T* saved = args_.saved + tile_.event(r, s) * width;
            for (std::int64_t i = 0; i < width; i += kPackedLanes<T>) {
                hwy::Prefetch(saved + i);
            }
        }
    }

    void load_cell_state(std::int64_t r, std::int64_t before, bool from_zero) {
        const std::int64_t count = saved_count(weights_.kind);
        T* c = c_before_ + r * stride_;
        if (!from_zero && before >= 0) {
            const T* saved = args_.saved + before * count * weights_.blocks * kPackedLanes<T>;
            for (std::int64_t block = 0; block < weights_.blocks; ++block) {
                std::copy_n(saved + (block * count + count - 1) * kPackedLanes<T>, kPackedLanes<T>,
                            c + block * kPackedLanes<T>);
            }
        } else if (!from_zero && args_.c_0 != nullptr) {
            std::copy_n(args_.c_0 + tile_.session(r) * weights_.hidden_size, weights_.hidden_size,
                        c);
        } else {
            std::fill_n(c, stride_, T(0));
        }
    }

    void cut_at_resets(std::int64_t active) {
        for (std::int64_t r = 0; r < active && args_.reset != nullptr; ++r) {
            if (is_reset(events_[r])) {
                std::fill_n(dh_ + r * stride_, stride_, T(0));
                std::fill_n(dc_ + r * stride_, stride_, T(0));
            }
        }
    }

    const RnnBackwardArgs<T>& args_;
    const CellStepGrad<T> cell_step_;
    const PackedRnnGrad<T>& weights_;
    const SessionTile& tile_;
    const std::int64_t first_row_, stride_;
    T *dh_, *dc_, *c_before_, *work_;
    const T **dh_rows_, **dgates_rows_, **candidate_rows_, **slots_rows_;
    std::int64_t* events_;
    NoiseTile<T> noise_;
};

template <class T>
void run_backward(const RnnBackwardArgs<T>& args, CellStepGrad<T> step) {
    const StepRange& range = *args.range;
    for_each_tile_of_rows(range.last_session - range.first_session, args.weights->precision,
                          [&](std::int64_t first, std::int64_t last) {
                              const SessionTile tile(*args.layout, range.first_session + first,
                                                     range.first_session + last, args.reverse);
                              BackwardTile<T>(args, step, tile, first).run();
                          });
}

template void run_backward(const RnnBackwardArgs<float>&, CellStepGrad<float>);
template void run_backward(const RnnBackwardArgs<double>&, CellStepGrad<double>);

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();
