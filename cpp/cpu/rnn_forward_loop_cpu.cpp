// The time loop of all recurrent cells: a thread runs all steps of its tile without a barrier.
//
// Input gates are computed for a chunk of steps at a time (one product over many rows, or a copy
// from a table by item id) into a buffer that stays in L2; a step then is one pass over the state.
// Rows leave the tile when their session ends. The step is the cell's, see gru_forward_cpu.cpp.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rnn_forward_loop_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>
#include <cstring>

#include "base/workspace.h"
#include "cpu/rnn_forward-inl.h"
#include "cpu/rnn_noise-inl.h"
#include "cpu/rnn_tiles.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class T>
class ForwardTile {
  public:
    ForwardTile(const RnnForwardArgs<T>& args, CellStep<T> cell_step, const SessionTile& tile)
        : args_(args),
          cell_step_(cell_step),
          weights_(*args.weights),
          tile_(tile),
          stride_(std::max(padded_to_vectors<T>(weights_.state_size),
                           weights_.blocks * kPackedLanes<T>)),
          gates_stride_(weights_.n_vectors() * kPackedLanes<T>),
          saved_stride_(saved_count(weights_.kind) * weights_.blocks * kPackedLanes<T>),
          saved_writer_(args.saved, args.layout->n_events(), saved_stride_),
          noise_(args.noise, weights_.kind, tile.rows(), stride_) {
        const std::int64_t rows = tile.rows();
        const std::int64_t gates_rows =
            std::max(rows, std::min(kChunkRows, rows * tile.max_steps()));
        // Rows of a table are read where they lie.
        most_rows_ = from_table() ? rows : gates_rows;
        chunk_rows_ = from_table() ? std::max(rows, kChunkPointers) : gates_rows;
        Workspace& workspace = thread_workspace();
        workspace.reserve(4 * Workspace::bytes_for<T>(rows * stride_) +
                          Workspace::bytes_for<T>(gates_rows * gates_stride_) +
                          5 * Workspace::bytes_for<T*>(rows) + Workspace::bytes_for<T>(rows) +
                          2 * Workspace::bytes_for<const T*>(chunk_rows_) + noise_.bytes());
        h_ = workspace.take<T>(rows * stride_);
        h_next_ = workspace.take<T>(rows * stride_);
        c_ = workspace.take<T>(rows * stride_);
        work_ = workspace.take<T>(rows * stride_);
        x_gates_ = workspace.take<T>(from_table() ? 0 : gates_rows * gates_stride_);
        h_rows_ = workspace.take<const T*>(rows);
        h_next_rows_ = workspace.take<const T*>(rows);
        work_rows_ = workspace.take<const T*>(rows);
        y_rows_ = workspace.take<T*>(rows);
        saved_rows_ = workspace.take<T*>(rows);
        attention_ = workspace.take<T>(rows);
        x_rows_ = workspace.take<const T*>(chunk_rows_);
        gates_rows_ = from_table() ? x_rows_ : workspace.take<const T*>(chunk_rows_);
        for (std::int64_t i = 0; i < chunk_rows_ && !from_table(); ++i) {
            gates_rows_[i] = x_gates_ + i * gates_stride_;
        }
        noise_.take(workspace);
    }

    void run() {
        const DotSession session(dot_type(weights_.precision), most_rows_);
        load_states();
        std::int64_t active = tile_.active(0, tile_.rows());
        store_final_states(active, tile_.rows());
        for (std::int64_t s = 0; active > 0;) {
            const std::int64_t steps = fill_input_gates(s, active);
            const T* const* x_gates = gates_rows_;
            for (std::int64_t i = 0; i < steps && active > 0; ++i, ++s) {
                const std::int64_t still = tile_.active(s + 1, active);
                if (from_table()) {
                    step(s, active, x_gates, {x_gates + active, i + 1 < steps ? still : 0});
                } else {
                    const std::int64_t first = n_next_ * i / steps;
                    step(s, active, x_gates, {x_rows_ + first, n_next_ * (i + 1) / steps - first});
                }
                x_gates += active;
                store_final_states(still, active);
                active = still;
            }
        }
    }

  private:
    static constexpr std::int64_t kChunkRows = 48;
    static constexpr std::int64_t kChunkPointers = 1024;

    bool from_table() const { return args_.gate_table != nullptr; }

    void load_states() {
        const std::int64_t rows = tile_.rows();
        const auto bytes = static_cast<std::size_t>(rows * stride_) * sizeof(T);
        std::memset(h_, 0, bytes);
        std::memset(h_next_, 0, bytes);
        std::memset(c_, 0, bytes);
        for (std::int64_t r = 0; r < rows; ++r) {
            const std::int64_t b = tile_.session(r);
            if (args_.h_0 != nullptr) {
                std::copy_n(args_.h_0 + b * weights_.state_size, weights_.state_size,
                            h_ + r * stride_);
            }
            if (args_.c_0 != nullptr) {
                std::copy_n(args_.c_0 + b * weights_.hidden_size, weights_.hidden_size,
                            c_ + r * stride_);
            }
            h_rows_[r] = h_ + r * stride_;
            h_next_rows_[r] = h_next_ + r * stride_;
            work_rows_[r] = work_ + r * stride_;
        }
        // A weight that is not finite makes NaN of a state of zero.
        starts_from_zero_ =
            weights_.finite_recurrent && (args_.h_0 == nullptr || all_zero(h_, rows * stride_));
    }

    static bool all_zero(const T* values, std::int64_t n) {
        return std::all_of(values, values + n, [](T value) { return value == T(0); });
    }

    void store_final_states(std::int64_t first, std::int64_t last) {
        for (std::int64_t r = first; r < last; ++r) {
            const std::int64_t b = tile_.session(r);
            std::copy_n(h_ + r * stride_, weights_.state_size, args_.h_n + b * weights_.state_size);
            if (args_.c_n != nullptr) {
                std::copy_n(c_ + r * stride_, weights_.hidden_size,
                            args_.c_n + b * weights_.hidden_size);
            }
        }
    }

    std::int64_t x_width() const {
        return from_table()                   ? gates_stride_
               : weights_.has_input_weights() ? weights_.input_size
                                              : weights_.gates * weights_.hidden_size;
    }
    // Points x_rows_ to the inputs of as many steps from `s` on as fit the buffer, step after step,
    // active rows only.
    struct Chunk {
        std::int64_t rows, steps, active;  // active: after it
    };
    Chunk point_to_inputs(std::int64_t s, std::int64_t active) {
        const T* x = from_table() ? args_.gate_table : args_.x;
        const std::int64_t width = x_width();
        Chunk chunk{0, 0, active};
        while (chunk.active > 0 && chunk.rows + chunk.active <= chunk_rows_) {
            for (std::int64_t r = 0; r < chunk.active; ++r) {
                const std::int64_t event = tile_.event(r, s + chunk.steps);
                x_rows_[chunk.rows + r] =
                    x + (args_.ids == nullptr ? event : args_.ids[event]) * width;
            }
            chunk.rows += chunk.active;
            ++chunk.steps;
            chunk.active = tile_.active(s + chunk.steps, chunk.active);
        }
        return chunk;
    }

    // Input gates of the chunk from `s` on. Returns the number of its steps.
    std::int64_t fill_input_gates(std::int64_t s, std::int64_t active) {
        const Chunk chunk = point_to_inputs(s, active);
        const std::int64_t n = chunk.rows;
        if (from_table()) {
            fetch_rows(x_rows_, x_rows_ + active, gates_stride_);
        } else if (!weights_.has_input_weights()) {
            for (std::int64_t i = 0; i < n; ++i) {
                arrange_input_gates(x_rows_[i], x_gates_ + i * gates_stride_);
            }
        } else {
            rnn_input_gates_cpu<T>({&weights_, x_rows_, n, x_gates_});
        }
        if (!from_table()) {
            n_next_ = point_to_inputs(s + chunk.steps, chunk.active).rows;
        }
        return chunk.steps;
    }

    // The given input gates of one event (gate after gate), with the bias, into vector order.
    void arrange_input_gates(const T* from, T* to) const {
        const T* bias = weights_.input_bias.data();
        for (std::int64_t block = 0; block < weights_.blocks; ++block) {
            const std::int64_t unit = block * kPackedLanes<T>;
            const std::int64_t lanes = std::min(kPackedLanes<T>, weights_.hidden_size - unit);
            for (std::int64_t gate = 0; gate < weights_.gates; ++gate) {
                const T* values = from + gate * weights_.hidden_size + unit;
                for (std::int64_t lane = 0; lane < lanes; ++lane) {
                    to[lane] = values[lane] + bias[lane];
                }
                std::fill(to + lanes, to + kPackedLanes<T>, T(0));
                to += kPackedLanes<T>;
                bias += kPackedLanes<T>;
            }
        }
    }

    // Rows to ask for during a step.
    struct Ahead {
        const T* const* rows;
        std::int64_t n;
    };
    void step(std::int64_t s, std::int64_t active, const T* const* x_gates, const Ahead& ahead) {
        for (std::int64_t r = 0; r < active; ++r) {
            const std::int64_t event = tile_.event(r, s);
            if (args_.reset != nullptr && args_.reset[event] != 0) {
                std::fill_n(h_ + r * stride_, stride_, T(0));
                std::fill_n(c_ + r * stride_, stride_, T(0));
            }
            y_rows_[r] = args_.y + (args_.y == nullptr ? 0 : event * args_.ldy);
            saved_rows_[r] = args_.saved + (args_.saved == nullptr ? 0 : event * saved_stride_);
            if (args_.saved != nullptr) {
                clear_unused_lanes(saved_rows_[r]);
            }
            if (args_.attention != nullptr) {
                attention_[r] = args_.attention[event];
            }
        }
        noise_.draw(tile_, s, active);
        noise_.remember_cell_state(c_, active);
        const StepView<T> view{&weights_,
                               (s & 1) != 0,
                               active,
                               s == 0 && starts_from_zero_ ? 0 : weights_.state_size,
                               stride_,
                               h_,
                               h_rows_,
                               h_next_,
                               c_,
                               work_,
                               work_rows_,
                               x_gates,
                               args_.y == nullptr ? nullptr : y_rows_,
                               args_.saved == nullptr ? nullptr : saved_rows_,
                               saved_writer_,
                               noise_.candidate_scale(),
                               attention_,
                               ahead.rows,
                               ahead.n,
                               x_width()};
        cell_step_(view);
        if (noise_.zones()) {
            noise_.blend(h_, h_next_, c_, active);
            store_blended(active);
        }
        std::swap(h_, h_next_);
        std::swap(h_rows_, h_next_rows_);
        if (weights_.float32_states) {
            round_to_float32(h_, active * stride_);
            round_to_float32(c_, active * stride_);
        }
    }

    // What the cell leaves out of the last block, see used_lanes.
    void clear_unused_lanes(T* saved) const {
        const std::int64_t unused =
            weights_.blocks * kPackedLanes<T> - in_whole_vectors<T>(weights_.hidden_size);
        for (std::int64_t v = 0; unused > 0 && v < saved_count(weights_.kind); ++v) {
            std::fill_n(saved + saved_stride_ - v * kPackedLanes<T> - unused, unused, T(0));
        }
    }

    // The states after zoneout, where the cell wrote those before it.
    void store_blended(std::int64_t active) const {
        for (std::int64_t r = 0; r < active; ++r) {
            if (args_.y != nullptr) {
                std::copy_n(h_next_ + r * stride_, weights_.state_size, y_rows_[r]);
            }
            if (args_.saved != nullptr && weights_.kind == CellKind::lstm) {
                constexpr std::int64_t kSaved = saved_count(CellKind::lstm);
                const T* c = c_ + r * stride_;
                T* to = saved_rows_[r] + (kSaved - 1) * kPackedLanes<T>;
                for (std::int64_t block = 0; block < weights_.blocks; ++block) {
                    std::copy_n(c + block * kPackedLanes<T>, kPackedLanes<T>,
                                to + block * kSaved * kPackedLanes<T>);
                }
            }
        }
    }

    static void round_to_float32(T* values, std::int64_t n) {
        for (std::int64_t i = 0; i < n; ++i) {
            values[i] = static_cast<T>(static_cast<float>(values[i]));
        }
    }

    const RnnForwardArgs<T>& args_;
    const CellStep<T> cell_step_;
    const PackedRnn<T>& weights_;
    const SessionTile& tile_;
    const std::int64_t stride_, gates_stride_, saved_stride_;
    const RowWriter<T> saved_writer_;
    std::int64_t chunk_rows_;
    std::int64_t most_rows_;  // of a product
    T *h_, *h_next_, *c_, *work_, *x_gates_;
    const T **h_rows_, **h_next_rows_, **work_rows_, **x_rows_, **gates_rows_;
    T **y_rows_, **saved_rows_;
    T* attention_;
    std::int64_t n_next_ = 0;  // rows of inputs of the next chunk
    bool starts_from_zero_ = false;
    NoiseTile<T> noise_;
};

template <class T>
void run_forward(const RnnForwardArgs<T>& args, CellStep<T> step) {
    for_each_tile_of_rows(args.layout->batch(), args.weights->precision,
                          [&](std::int64_t first, std::int64_t last) {
                              const SessionTile tile(*args.layout, first, last, args.reverse);
                              ForwardTile<T>(args, step, tile).run();
                              hwy::FlushStream();
                          });
}

template void run_forward(const RnnForwardArgs<float>&, CellStep<float>);
template void run_forward(const RnnForwardArgs<double>&, CellStep<double>);

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();
