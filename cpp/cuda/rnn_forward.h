// The forward time loop of all recurrent cells. States stay in shared memory. What bounds a step is
// its product, see rnn_product.h; all else a thread does for its own elements.
#pragma once

#include "cuda/rnn_cells.h"
#include "cuda/rnn_launch.h"
#include "cuda/rnn_steps.h"

namespace seqrec_fast {
namespace cuda {

template <class Cell, class Product, class S>
class ForwardLoop {
  public:
    using T = typename Product::T;
    using M = typename Product::Math;
    using Operand = typename Product::Operand;
    static constexpr int kRows = Product::kRows;
    static constexpr int kElements = Product::kElements;
    static constexpr unsigned kMostThreads = Product::kMostThreads;
    static constexpr bool kParts = Product::kPlace == WeightPlace::outside;
    static constexpr int kGates = static_cast<int>(gate_count(Cell::kKind));
    static constexpr int kSaved = static_cast<int>(saved_count(Cell::kKind));
    static constexpr bool kTwoPasses = Cell::kKind == CellKind::gru_reset_before;
    static constexpr bool kCellState = Cell::kKind == CellKind::lstm;
    static constexpr bool kReadsAhead = Product::kReadsAhead && !kTwoPasses;
    using Rows = RowValues<T, kRows>;

    SEQREC_FN ForwardLoop(const RnnLoopArgs<S>& args, SharedMemory shared)
        : args_(args),
          tile_(*shared.take<TileRows<kRows>>(1)),
          steps_(shared.take<ForwardStep<kRows>>(3)),
          hidden_(static_cast<int>(args.hidden)),
          bias_hh_(bias_of(args, expert())),
          product_(tile_product<Product>(args, tile_index(), kGates, shared)),
          left_(product_.operand(1, shared)),
          left_next_(product_.operand(1, shared)),
          h_(tile_states(product_, hidden_, args.step.h, shared)),
          c_(kCellState ? tile_states(product_, hidden_, args.step.other, shared) : nullptr),
          z_(kTwoPasses ? tile_states(product_, hidden_, args.step.other, shared) : nullptr) {
        if constexpr (kTwoPasses) {
            left_reset_ = product_.operand(1, shared);
        }
    }
    static std::size_t shared_bytes(std::int64_t hidden, std::int64_t blocks) {
        constexpr int kStates = kCellState || kTwoPasses ? 2 : 1;
        return SharedMemory::bytes<TileRows<kRows>>(1) +
               SharedMemory::bytes<ForwardStep<kRows>>(3) +
               Product::weight_bytes(hidden, kGates, blocks) +
               Product::operand_bytes(hidden, 1) * (kTwoPasses ? 3 : 2) +
               state_bytes<Product>(hidden) * kStates;
    }

    // A part of one step, see OneStep.
    SEQREC_FN void run_part() {
        const auto s = static_cast<int>(args_.step.index);
        tile_.load(args_.layout, tile_index());
        __syncthreads();
        find_step(s);
        find_step(s + 1);
        __syncthreads();
        if (args_.step.part == StepPart::start) {
            load_states();
        } else if constexpr (kTwoPasses) {
            const bool is_first = args_.step.part == StepPart::first;
            product_.for_each_turn(
                [&](int turn) { is_first ? reset_and_update(s, turn) : candidate(s, turn); });
        } else {
            product_.for_each_turn([&](int turn) { all_gates(s, turn); });
        }
    }

    SEQREC_FN void run() {
        tile_.load(args_.layout, tile_index());
        sync_tile<Product::kPlace>();
        find_step(0);
        find_step(1);
        sync_tile<Product::kPlace>();
        load_states();
        sync_tile<Product::kPlace>();
        if constexpr (kReadsAhead) {
            ahead_ = read<kGates>(0, product_.first_turn(), 0);
        }
        const int steps = tile_.max_steps();
        for (int s = 0; s < steps; ++s) {
            // Nobody reads this entry before the next barrier.
            find_step(s + 2);
            if constexpr (kTwoPasses) {
                product_.for_each_turn([&](int turn) { reset_and_update(s, turn); });
                sync_tile<Product::kPlace>();
                product_.for_each_turn([&](int turn) { candidate(s, turn); });
            } else {
                product_.for_each_turn([&](int turn) { all_gates(s, turn); });
            }
            sync_tile<Product::kPlace>();
            const Operand before = left_;
            left_ = left_next_;
            left_next_ = before;
        }
    }

  private:
    // The blocks of a cluster share a tile.
    SEQREC_FN static std::int64_t tile_index() {
        return Product::kPlace == WeightPlace::cluster ? blockIdx.x / cluster_size() : blockIdx.x;
    }
    SEQREC_FN std::int64_t expert() const { return expert_of(args_.layout, tile_index()); }
    SEQREC_FN static const S* bias_of(const RnnLoopArgs<S>& args, std::int64_t expert) {
        return args.bias_hh == nullptr ? nullptr : args.bias_hh + expert * kGates * args.hidden;
    }
    SEQREC_FN const ForwardStep<kRows>& step(int s) const { return steps_[s % 3]; }
    SEQREC_FN void find_step(int s) { steps_[s % 3].find(args_, tile_, s); }

    // visit(element, unit, row) for those of a turn that there are.
    template <class Visit>
    SEQREC_FN void for_each_element(int turn, const Visit& visit) const {
        SEQREC_UNROLL
        for (int i = 0; i < kElements; ++i) {
            const int unit = product_.unit(turn, i);
            if (product_.has(unit)) {
                visit(i, unit, product_.row(i));
            }
        }
    }

    SEQREC_FN void load_states() {
        product_.for_each_turn([&](int turn) {
            for_each_element(turn, [&](int, int unit, int r) { load_state(unit, r); });
        });
    }
    SEQREC_FN void load_state(int unit, int r) {
        const std::int64_t b = tile_.session[r], at = b * hidden_ + unit;
        const bool is_final = b >= 0 && tile_.length[r] == 0;
        const T h = b < 0 || args_.h_0 == nullptr ? T(0) : widen(args_.h_0[at]);
        set_state(unit, r, step(0).reset[r] ? T(0) : h, left_);
        if (is_final) {
            args_.h_n[at] = narrow<S>(h);
        }
        if constexpr (kCellState) {
            const T c = b < 0 || args_.c_0 == nullptr ? T(0) : widen(args_.c_0[at]);
            c_[unit].of[r] = step(0).reset[r] ? T(0) : c;
            if (is_final) {
                args_.c_n[at] = narrow<S>(c);
            }
        }
    }
    SEQREC_FN void set_state(int unit, int r, T h, const Operand& left) {
        h_[unit].of[r] = h;
        left.set(0, unit, r, h);
    }

    // What a turn reads of the GPU's memory in a step.
    template <int kCount>
    struct Inputs {
        T x[kCount][kElements];
        std::uint8_t noise[kElements];
    };
    template <int kCount>
    SEQREC_FN Inputs<kCount> read(int s, int turn, int first_gate) const {
        Inputs<kCount> inputs{};
        for_each_element(turn, [&](int i, int unit, int r) {
            const std::int64_t event = step(s).event[r];
            if (event < 0) {
                return;
            }
            const S* const gates = args_.x_gates + (event * kGates + first_gate) * hidden_ + unit;
            SEQREC_UNROLL
            for (int g = 0; g < kCount; ++g) {
                inputs.x[g][i] = widen(gates[g * hidden_]);
            }
            inputs.noise[i] = noise_bits(args_.noise, event * hidden_ + unit);
        });
        return inputs;
    }
    // Of the first turn, all that most threads have, a step before: the memory's time passes under
    // one. Otherwise under the product that follows.
    SEQREC_FN Inputs<kGates> inputs_of_all_gates(int s, int turn) {
        if constexpr (kReadsAhead) {
            if (turn == product_.first_turn()) {
                const Inputs<kGates> inputs = ahead_;
                ahead_ = read<kGates>(s + 1, turn, 0);
                return inputs;
            }
        }
        return read<kGates>(s, turn, 0);
    }

    // The gates' sums of a turn: those of the input, and those of the state from bias_hh on.
    template <int kCount>
    struct Sums {
        Inputs<kCount> in;
        T h[kCount][kElements];
    };
    template <int kCount>
    SEQREC_FN Sums<kCount> sums(const Inputs<kCount>& inputs, int turn, int first_gate,
                                const Operand& left) const {
        Sums<kCount> sums{inputs, {}};
        if (bias_hh_ != nullptr) {
            for_each_element(turn, [&](int i, int unit, int) {
                SEQREC_UNROLL
                for (int g = 0; g < kCount; ++g) {
                    sums.h[g][i] = widen(bias_hh_[(first_gate + g) * hidden_ + unit]);
                }
            });
        }
        product_.template add_gates<kCount>(left, first_gate, turn, sums.h);
        return sums;
    }

    SEQREC_FN void all_gates(int s, int turn) {
        const Sums<kGates> sums =
            this->template sums<kGates>(inputs_of_all_gates(s, turn), turn, 0, left_);
        for_each_element(turn, [&](int i, int unit, int r) {
            T x[kGates], h[kGates], saved[kSaved + 1];
            for (int g = 0; g < kGates; ++g) {
                x[g] = sums.in.x[g][i];
                h[g] = sums.h[g][i];
            }
            const std::int64_t event = step(s).event[r];
            T a = 0, c = 0;
            if constexpr (has_attention(Cell::kKind)) {
                a = event < 0 ? T(0) : widen(args_.attention[event]);
            }
            if constexpr (kCellState) {
                c = c_[unit].of[r];
            }
            const UnitNoise<T> noise = unit_noise<S>(args_.noise, sums.in.noise[i]);
            const T c_before = c, before = h_[unit].of[r];
            const T next =
                Cell::template step<M>(args_.kind, x, h, before, c, a, noise.scale, saved);
            if constexpr (kCellState) {
                saved[kSaved - 1] = c = noise.blend(noise.keep_c, c_before, c);
                c_[unit].of[r] = step(s + 1).reset[r] ? T(0) : c;
                if (event >= 0 && is_last(s, r)) {
                    args_.c_n[tile_.session[r] * hidden_ + unit] = narrow<S>(c);
                }
            }
            for (int v = 0; v < kSaved; ++v) {
                save(event, v, unit, saved[v]);
            }
            store(s, r, unit, noise.blend(noise.keep_h, before, next));
        });
    }

    // Reset-before, first pass.
    SEQREC_FN void reset_and_update(int s, int turn) {
        const Sums<2> sums = this->template sums<2>(read<2>(s, turn, 0), turn, 0, left_);
        for_each_element(turn, [&](int i, int unit, int r) {
            const std::int64_t event = step(s).event[r];
            const T reset = M::sigmoid(sums.in.x[0][i] + sums.h[0][i]);
            const T update = M::sigmoid(sums.in.x[1][i] + sums.h[1][i]);
            left_reset_.set(0, unit, r, reset * h_[unit].of[r]);
            z_[unit].of[r] = update;
            save(event, 0, unit, reset);
            save(event, 1, unit, update);
        });
    }
    // And second.
    SEQREC_FN void candidate(int s, int turn) {
        const Sums<1> sums = this->template sums<1>(read<1>(s, turn, 2), turn, 2, left_reset_);
        for_each_element(turn, [&](int i, int unit, int r) {
            const T n = gru_candidate<M>(sums.in.x[0][i], sums.h[0][i], T(1));
            save(step(s).event[r], 2, unit, n);
            const UnitNoise<T> noise = unit_noise<S>(args_.noise, sums.in.noise[i]);
            const T before = h_[unit].of[r];
            const T next = gru_blend<M>(z_[unit].of[r], noise.scale * n, before);
            store(s, r, unit, noise.blend(noise.keep_h, before, next));
        });
    }

    SEQREC_FN bool is_last(int s, int r) const { return s + 1 == tile_.length[r]; }

    SEQREC_FN void save(std::int64_t event, int index, int unit, T value) const {
        if (event >= 0 && args_.saved != nullptr) {
            args_.saved[(event * kSaved + index) * hidden_ + unit] = narrow<S>(value);
        }
    }
    SEQREC_FN void store(int s, int r, int unit, T h) {
        const std::int64_t event = step(s).event[r];
        set_state(unit, r, event < 0 || step(s + 1).reset[r] ? T(0) : h, left_next_);
        if (event >= 0) {
            args_.y[event * hidden_ + unit] = narrow<S>(h);
        }
        if (event >= 0 && is_last(s, r)) {
            args_.h_n[tile_.session[r] * hidden_ + unit] = narrow<S>(h);
        }
    }

    const RnnLoopArgs<S>& args_;
    TileRows<kRows>& tile_;
    ForwardStep<kRows>* steps_;
    int hidden_;
    const S* bias_hh_;  // of the tile's expert
    Product product_;
    Operand left_, left_next_, left_reset_{};  // h, h of the next step, r * h
    Rows *h_, *c_, *z_;
    Inputs<kReadsAhead ? kGates : 1> ahead_{};
};

template <class Cell, class S>
void run_forward(const RnnLoopArgs<S>& args, cudaStream_t stream) {
    run_loop<ForwardLoop, Cell, S>("rnn_forward", args, stream);
}

}  // namespace cuda
}  // namespace seqrec_fast
