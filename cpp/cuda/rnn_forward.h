// The forward time loop of all recurrent cells. States are in shared memory, weight_hh too where it
// fits, else every block streams it from L2, once a step for all rows of its tile. Per unit and
// step a thread multiplies `kRows` states by all gates' weights: with 8 rows the multiply-adds
// bound a step, with 2 the reading of weights.
#pragma once

#include "cuda/launch.h"
#include "cuda/rnn_cells.h"
#include "cuda/rnn_tile.h"

namespace seqrec_fast {
namespace cuda {

// The event of every row in a step; -1: the row has no such step.
template <int kRows>
struct ForwardStep {
    std::int64_t event[kRows];
    bool reset[kRows];
};

template <class T, class Cell, int kRows, bool kStationary>
class ForwardLoop {
  public:
    using Rows = RowValues<T, kRows>;
    static constexpr int kGates = static_cast<int>(gate_count(Cell::kKind));
    static constexpr int kSaved = static_cast<int>(saved_count(Cell::kKind));
    static constexpr bool kTwoPasses = Cell::kKind == CellKind::gru_reset_before;
    static constexpr bool kCellState = Cell::kKind == CellKind::lstm;
    // Vectors of H in shared memory: h twice, and c, or r * h and z.
    static constexpr int kVectors = kTwoPasses ? 4 : kCellState ? 3 : 2;

    SEQREC_FN ForwardLoop(const RnnLoopArgs<T>& args, TileRows<kRows>& tile,
                          ForwardStep<kRows>* steps, unsigned char* shared)
        : args_(args),
          tile_(tile),
          steps_(steps),
          hidden_(static_cast<int>(args.hidden)),
          h_(reinterpret_cast<Rows*>(shared)),
          h_next_(h_ + hidden_),
          c_(h_next_ + hidden_),
          z_(c_ + hidden_),
          weights_(args.weight_hh_t) {
        if (kStationary) {
            T* const own = reinterpret_cast<T*>(h_ + kVectors * hidden_);
            copy_to_shared(args.weight_hh_t, args.hidden * kGates * args.hidden, own);
            weights_ = own;
        }
    }

    SEQREC_FN void run() {
        tile_.load(args_.layout, blockIdx.x);
        __syncthreads();
        find_step(0);
        find_step(1);
        __syncthreads();
        load_states();
        __syncthreads();
        const int steps = tile_.max_steps();
        for (int s = 0; s < steps; ++s) {
            // Nobody reads this entry before the next barrier.
            find_step(s + 2);
            if constexpr (kTwoPasses) {
                for_each_unit([&](int unit) { reset_and_update(s, unit); });
                __syncthreads();
                for_each_unit([&](int unit) { candidate(s, unit); });
            } else {
                for_each_unit([&](int unit) { all_gates(s, unit); });
            }
            __syncthreads();
            Rows* const before = h_;
            h_ = h_next_;
            h_next_ = before;
        }
    }

  private:
    SEQREC_FN const ForwardStep<kRows>& step(int s) const { return steps_[s % 3]; }

    SEQREC_FN void find_step(int s) {
        const auto r = static_cast<int>(threadIdx.x);
        if (r < kRows) {
            const bool has = s < tile_.length[r];
            const std::int64_t event = has ? tile_.event(args_.layout, r, s, args_.reverse) : -1;
            ForwardStep<kRows>& step = steps_[s % 3];
            step.event[r] = event;
            step.reset[r] = has && args_.reset != nullptr && args_.reset[event] != 0;
        }
    }

    template <class Visit>
    SEQREC_FN void for_each_unit(const Visit& visit) const {
        for (int unit = static_cast<int>(threadIdx.x); unit < hidden_;
             unit += static_cast<int>(blockDim.x)) {
            visit(unit);
        }
    }

    SEQREC_FN void load_states() {
        for_each_unit([&](int unit) {
            for (int r = 0; r < kRows; ++r) {
                const std::int64_t b = tile_.session[r], at = b * hidden_ + unit;
                const T h = b < 0 || args_.h_0 == nullptr ? T(0) : args_.h_0[at];
                h_[unit].of[r] = step(0).reset[r] ? T(0) : h;
                const bool is_final = b >= 0 && tile_.length[r] == 0;
                if (is_final) {
                    args_.h_n[at] = h;
                }
                if constexpr (kCellState) {
                    const T c = b < 0 || args_.c_0 == nullptr ? T(0) : args_.c_0[at];
                    c_[unit].of[r] = step(0).reset[r] ? T(0) : c;
                    if (is_final) {
                        args_.c_n[at] = c;
                    }
                }
            }
        });
    }

    // The gates' sums of a unit: those of the input, and those of the state from bias_hh on.
    template <int kCount>
    struct Sums {
        T x[kCount][kRows], h[kCount][kRows];
    };
    template <int kCount>
    SEQREC_FN Sums<kCount> sums(int s, int unit, int first_gate, const Rows* left) const {
        Sums<kCount> sums;
        for (int g = 0; g < kCount; ++g) {
            const int column = (first_gate + g) * hidden_ + unit;
            const T bias = args_.bias_hh == nullptr ? T(0) : args_.bias_hh[column];
            for (int r = 0; r < kRows; ++r) {
                // Asked for before the product, whose time covers that of the memory.
                const std::int64_t event = step(s).event[r];
                sums.x[g][r] = event < 0 ? T(0) : args_.x_gates[event * kGates * hidden_ + column];
                sums.h[g][r] = bias;
            }
        }
        add_products<kCount>(left, weights_ + first_gate * hidden_ + unit, kGates * hidden_,
                             hidden_, hidden_, sums.h);
        return sums;
    }

    SEQREC_FN void all_gates(int s, int unit) {
        const Sums<kGates> sums = this->template sums<kGates>(s, unit, 0, h_);
        for (int r = 0; r < kRows; ++r) {
            T x[kGates], h[kGates], saved[kSaved + 1];
            for (int g = 0; g < kGates; ++g) {
                x[g] = sums.x[g][r];
                h[g] = sums.h[g][r];
            }
            const std::int64_t event = step(s).event[r];
            T a = 0, c = 0;
            if constexpr (has_attention(Cell::kKind)) {
                a = event < 0 ? T(0) : args_.attention[event];
            }
            if constexpr (kCellState) {
                c = c_[unit].of[r];
            }
            const T next = Cell::template step<T>(x, h, h_[unit].of[r], c, a, saved);
            if constexpr (kCellState) {
                c_[unit].of[r] = step(s + 1).reset[r] ? T(0) : c;
                if (event >= 0 && is_last(s, r)) {
                    args_.c_n[tile_.session[r] * hidden_ + unit] = c;
                }
            }
            for (int i = 0; i < kSaved; ++i) {
                save(event, i, unit, saved[i]);
            }
            store(s, r, unit, next);
        }
    }

    // Reset-before, first pass.
    SEQREC_FN void reset_and_update(int s, int unit) {
        const Sums<2> sums = this->template sums<2>(s, unit, 0, h_);
        for (int r = 0; r < kRows; ++r) {
            const std::int64_t event = step(s).event[r];
            const T reset = DeviceMath<T>::sigmoid(sums.x[0][r] + sums.h[0][r]);
            const T update = DeviceMath<T>::sigmoid(sums.x[1][r] + sums.h[1][r]);
            c_[unit].of[r] = reset * h_[unit].of[r];
            z_[unit].of[r] = update;
            save(event, 0, unit, reset);
            save(event, 1, unit, update);
        }
    }
    // And second.
    SEQREC_FN void candidate(int s, int unit) {
        const Sums<1> sums = this->template sums<1>(s, unit, 2, c_);
        for (int r = 0; r < kRows; ++r) {
            using M = DeviceMath<T>;
            const T n = gru_candidate<M>(sums.x[0][r], sums.h[0][r], T(1));
            save(step(s).event[r], 2, unit, n);
            store(s, r, unit, gru_blend<M>(z_[unit].of[r], n, h_[unit].of[r]));
        }
    }

    SEQREC_FN bool is_last(int s, int r) const { return s + 1 == tile_.length[r]; }

    SEQREC_FN void save(std::int64_t event, int index, int unit, T value) const {
        if (event >= 0 && args_.saved != nullptr) {
            args_.saved[(event * kSaved + index) * hidden_ + unit] = value;
        }
    }
    SEQREC_FN void store(int s, int r, int unit, T h) {
        const std::int64_t event = step(s).event[r];
        h_next_[unit].of[r] = event < 0 || step(s + 1).reset[r] ? T(0) : h;
        if (event >= 0) {
            args_.y[event * hidden_ + unit] = h;
        }
        if (event >= 0 && is_last(s, r)) {
            args_.h_n[tile_.session[r] * hidden_ + unit] = h;
        }
    }

    const RnnLoopArgs<T>& args_;
    TileRows<kRows>& tile_;
    ForwardStep<kRows>* steps_;
    int hidden_;
    Rows *h_, *h_next_, *c_, *z_;
    const T* weights_;
};

template <class T, class Cell, int kRows, bool kStationary>
__global__ void __launch_bounds__(kRnnThreads) rnn_forward_kernel(RnnLoopArgs<T> args) {
    SEQREC_SHARED TileRows<kRows> tile;
    SEQREC_SHARED ForwardStep<kRows> steps[3];
    SEQREC_DYNAMIC_SHARED(unsigned char, shared);
    ForwardLoop<T, Cell, kRows, kStationary>(args, tile, steps, shared).run();
}

template <class Cell, class T>
void run_forward(const RnnLoopArgs<T>& args, cudaStream_t stream) {
    const auto shared_bytes = [&](int rows) {
        constexpr int kVectors = ForwardLoop<T, Cell, 2, false>::kVectors;
        return static_cast<std::size_t>(args.hidden * rows * kVectors) * sizeof(T);
    };
    const std::int64_t weights = args.hidden * gate_count(Cell::kKind) * args.hidden;
    with_tile_shape<T>(
        "rnn_forward", args.layout.batch, weights, shared_bytes,
        [&](auto rows, auto stationary, std::size_t bytes) {
            launch("rnn_forward", rnn_forward_kernel<T, Cell, rows(), stationary()>,
                   {(args.layout.batch + rows() - 1) / rows(), rnn_threads(args.hidden), bytes},
                   stream, args);
        });
}

}  // namespace cuda
}  // namespace seqrec_fast
