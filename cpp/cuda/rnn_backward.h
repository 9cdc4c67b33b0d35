// The reverse time loop of all recurrent cells: per step the gradients of the gates, then their
// product with weight_hh (rnn_product.h), which bounds it. Gradients of states stay in shared
// memory. What the weights' gradients need is written for the products after the loop.
#pragma once

#include "cuda/rnn_cells.h"
#include "cuda/rnn_launch.h"
#include "cuda/rnn_steps.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

template <class Cell, class Product, class S>
class BackwardLoop {
  public:
    using T = typename Product::T;
    using M = typename Product::Math;
    using Operand = typename Product::Operand;
    static constexpr int kRows = Product::kRows;
    static constexpr int kElements = Product::kElements;
    static constexpr unsigned kMostThreads = Product::kMostThreads;
    static constexpr bool kParts = Product::kPlace == WeightPlace::outside;
    using Rows = RowValues<T, kRows>;
    static constexpr int kGates = static_cast<int>(gate_count(Cell::kKind));
    static constexpr int kSaved = static_cast<int>(saved_count(Cell::kKind));
    static constexpr int kSlots = static_cast<int>(slot_count(Cell::kKind));
    static constexpr int kFirstSlot = static_cast<int>(first_recurrent_slot(Cell::kKind));
    static constexpr bool kTwoPasses = Cell::kKind == CellKind::gru_reset_before;
    static constexpr bool kCellState = Cell::kKind == CellKind::lstm;
    static constexpr bool kAttention = has_attention(Cell::kKind);

    SEQREC_FN BackwardLoop(const RnnLoopGradArgs<S>& args, SharedMemory shared)
        : args_(args),
          tile_(*shared.take<TileRows<kRows>>(1)),
          steps_(shared.take<BackwardStep<S, kRows>>(2)),
          warp_sums_(kAttention ? shared.take<Rows>(most_warp_sums(cluster_parts())) : nullptr),
          hidden_(static_cast<int>(args.hidden)),
          product_(tile_product<Product>(args, tile_index(), kGates, shared)),
          dgates_(product_.operand(kGates, shared)),
          dh_(tile_states(product_, hidden_, args.step.h, shared)),
          dc_(kCellState ? tile_states(product_, hidden_, args.step.other, shared) : nullptr) {}
    static std::size_t shared_bytes(std::int64_t hidden, std::int64_t blocks) {
        return SharedMemory::bytes<TileRows<kRows>>(1) +
               SharedMemory::bytes<BackwardStep<S, kRows>>(2) +
               Product::weight_bytes(hidden, kGates, blocks) +
               Product::operand_bytes(hidden, kGates) +
               state_bytes<Product>(hidden) * (kCellState ? 2 : 1) +
               (kAttention ? SharedMemory::bytes<Rows>(most_warp_sums(blocks)) : 0);
    }

    // A part of one step, see OneStep. The product of the step that was processed before it, s + 1,
    // is there only now.
    SEQREC_FN void run_part() {
        const StepPart part = args_.step.part;
        const auto s = static_cast<int>(args_.step.index);
        tile_.load(args_.layout, tile_index());
        __syncthreads();
        find_step(s);
        find_step(s + 1);
        __syncthreads();
        if (part == StepPart::start) {
            return load_states();
        }
        read_ahead(s);
        if constexpr (kTwoPasses) {
            if (part == StepPart::second) {
                return product_.for_each_turn([&](int turn) { reset(s, turn); });
            }
        }
        product_.for_each_turn([&](int turn) { add_recurrent(s + 1, turn); });
        if (part == StepPart::end) {
            return store_states();
        }
        if constexpr (kTwoPasses) {
            product_.for_each_turn([&](int turn) { candidate(s, turn); });
        } else {
            all_gates(s);
        }
        if constexpr (has_attention(Cell::kKind)) {
            __syncthreads();
            store_attention(s);
        }
    }

    SEQREC_FN void run() {
        tile_.load(args_.layout, tile_index());
        sync_tile<Product::kPlace>();
        const int last = tile_.max_steps() - 1;
        find_step(last);
        load_states();
        sync_tile<Product::kPlace>();
        read_ahead(last);
        for (int s = last; s >= 0; --s) {
            find_step(s - 1);
            if constexpr (kTwoPasses) {
                product_.for_each_turn([&](int turn) { candidate(s, turn); });
                sync_tile<Product::kPlace>();
                product_.for_each_turn([&](int turn) { reset(s, turn); });
            } else {
                all_gates(s);
            }
            sync_tile<Product::kPlace>();
            read_ahead(s - 1);
            // With respect to the state before, through the gates that were multiplied by it.
            product_.for_each_turn([&](int turn) { add_recurrent(s, turn); });
            if constexpr (has_attention(Cell::kKind)) {
                store_attention(s);
            }
            sync_tile<Product::kPlace>();
        }
        store_states();
    }

  private:
    static SEQREC_FN constexpr std::int64_t most_warp_sums(std::int64_t blocks) {
        return blocks * (kRnnThreads / kWarp);
    }
    // The blocks of a cluster share a tile.
    SEQREC_FN static std::int64_t tile_index() {
        return Product::kPlace == WeightPlace::cluster ? blockIdx.x / cluster_size() : blockIdx.x;
    }
    SEQREC_FN const BackwardStep<S, kRows>& step(int s) const { return steps_[s % 2]; }
    SEQREC_FN void find_step(int s) { steps_[(s + 2) % 2].find(args_, tile_, s); }

    // visit(element, unit, row) for those of a turn that there are.
    template <class Visit>
    SEQREC_FN void for_each_of(int turn, const Visit& visit) const {
        for (int i = 0; i < kElements; ++i) {
            const int unit = product_.unit(turn, i);
            if (product_.has(unit)) {
                visit(i, unit, product_.row(i));
            }
        }
    }
    // visit(unit, row) for all elements of the thread.
    template <class Visit>
    SEQREC_FN void for_each_element(const Visit& visit) const {
        product_.for_each_turn(
            [&](int turn) { for_each_of(turn, [&](int, int unit, int r) { visit(unit, r); }); });
    }

    SEQREC_FN void load_states() {
        for_each_element([&](int unit, int r) {
            const std::int64_t at = tile_.session[r] * hidden_ + unit;
            dh_[unit].of[r] = at < 0 ? T(0) : widen(args_.dh_n[at]);
            if constexpr (kCellState) {
                dc_[unit].of[r] = at < 0 ? T(0) : widen(args_.dc_n[at]);
            }
        });
    }
    SEQREC_FN void store_states() const {
        for_each_element([&](int unit, int r) {
            const std::int64_t at = tile_.session[r] * hidden_ + unit;
            if (at >= 0) {
                args_.dh_0[at] = narrow<S>(dh_[unit].of[r]);
                if constexpr (kCellState) {
                    args_.dc_0[at] = narrow<S>(dc_[unit].of[r]);
                }
            }
        });
    }

    SEQREC_FN T saved(std::int64_t event, int index, int unit) const {
        return widen(args_.saved[(event * kSaved + index) * hidden_ + unit]);
    }
    // What a turn reads of the GPU's memory in a step.
    struct Inputs {
        UnitState<T, kSaved> unit[kElements];
        T dy[kElements];
    };
    SEQREC_FN void read(int s, int turn, Inputs& inputs) const {
        for_each_of(turn, [&](int i, int unit, int r) {
            const BackwardStep<S, kRows>& now = step(s);
            const std::int64_t event = now.event[r];
            if (event < 0) {
                return;
            }
            UnitState<T, kSaved>& state = inputs.unit[i];
            for (int v = 0; v < kSaved; ++v) {
                state.saved[v] = saved(event, v, unit);
            }
            if constexpr (kSaved == 0) {
                state.saved[0] = widen(args_.y[event * hidden_ + unit]);
            }
            inputs.dy[i] = widen(args_.dy[event * hidden_ + unit]);
            state.h_before = now.h_before[r] == nullptr ? T(0) : widen(now.h_before[r][unit]);
            if constexpr (kCellState) {
                state.c_before = now.c_before[r] == nullptr ? T(0) : widen(now.c_before[r][unit]);
            }
            if constexpr (has_attention(Cell::kKind)) {
                state.attention = widen(args_.attention[event]);
            }
        });
    }
    // Of the first turn, all that most threads have: the memory's time passes under a product.
    SEQREC_FN void read_ahead(int s) {
        if (s >= 0) {
            read(s, product_.first_turn(), ahead_);
        }
    }
    SEQREC_FN Inputs inputs(int s, int turn) const {
        Inputs inputs = ahead_;
        if (turn != product_.first_turn()) {
            read(s, turn, inputs);
        }
        return inputs;
    }
    // Not among what is read ahead: registers are short, and most layers have none.
    SEQREC_FN UnitNoise<T> noise_of(std::int64_t event, int unit) const {
        return unit_noise<S>(args_.noise, noise_bits(args_.noise, event * hidden_ + unit));
    }
    SEQREC_FN void store_slot(std::int64_t event, int r, int slot, int unit, T value) {
        args_.dgates[(event * kSlots + slot) * hidden_ + unit] = narrow<S>(value);
        if (slot >= kFirstSlot) {
            dgates_.set(slot - kFirstSlot, unit, r, value);
        }
    }

    // Rows without this step have no part in the product, and keep their dh.
    SEQREC_FN void clear_slots(int r, int unit) {
        for (int g = 0; g < kGates; ++g) {
            dgates_.set(g, unit, r, T(0));
        }
    }

    SEQREC_FN void all_gates(int s) {
        T attention[kRows] = {};
        product_.for_each_turn([&](int turn) {
            const Inputs in = inputs(s, turn);
            for_each_of(turn, [&](int i, int unit, int r) {
                const T part = gates_of(s, unit, r, in.unit[i], in.dy[i]);
                if constexpr (kElements == kRows) {
                    attention[i] += part;
                } else {
                    // Which row it is depends on the lane; indices have to be constants.
                    for (int row = 0; row < kRows; ++row) {
                        attention[row] += row == r ? part : T(0);
                    }
                }
            });
        });
        if constexpr (has_attention(Cell::kKind)) {
            const unsigned warp = cluster_part() * (blockDim.x / kWarp) + threadIdx.x / kWarp;
            for (int r = 0; r < kRows; ++r) {
                const T sum = warp_sum(attention[r]);
                if (lane_index() == 0) {
                    first_block(warp_sums_)[warp].of[r] = sum;
                }
            }
        }
    }
    // Returns the unit's part of dattention.
    SEQREC_FN T gates_of(int s, int unit, int r, const UnitState<T, kSaved>& state, T dy) {
        const BackwardStep<S, kRows>& now = step(s);
        const std::int64_t event = now.event[r];
        if (event < 0) {
            clear_slots(r, unit);
            return T(0);
        }
        const UnitNoise<T> noise = noise_of(event, unit);
        T dh = dh_[unit].of[r] + dy, dc = 0;
        const T past_h = noise.split(noise.keep_h, dh);
        if constexpr (kCellState) {
            dc = dc_[unit].of[r];
        }
        const T past_c = noise.split(noise.keep_c, dc);
        args_.h_before[event * hidden_ + unit] = narrow<S>(state.h_before);
        const UnitGrad<T, kSlots> grad =
            Cell::template step_grad<M>(args_.kind, state, noise, dh, dc);
        for (int slot = 0; slot < kSlots; ++slot) {
            store_slot(event, r, slot, unit, grad.slots[slot]);
        }
        dh_[unit].of[r] = grad.h + past_h;
        if constexpr (kCellState) {
            dc_[unit].of[r] = now.reset[r] ? T(0) : grad.c + past_c;
        }
        return grad.attention;
    }
    SEQREC_FN void store_attention(int s) const {
        const auto r = static_cast<int>(threadIdx.x);
        if (cluster_part() == 0 && r < kRows && step(s).event[r] >= 0) {
            T sum = 0;
            for (unsigned warp = 0; warp < cluster_parts() * (blockDim.x / kWarp); ++warp) {
                sum += warp_sums_[warp].of[r];
            }
            args_.dattention[step(s).event[r]] = narrow<S>(sum);
        }
    }
    // Which of the blocks of the tile this is.
    static SEQREC_FN unsigned cluster_part() {
        return Product::kPlace == WeightPlace::cluster ? static_cast<unsigned>(cluster_rank()) : 0;
    }
    static SEQREC_FN unsigned cluster_parts() {
        return Product::kPlace == WeightPlace::cluster ? static_cast<unsigned>(cluster_size()) : 1;
    }
    static SEQREC_FN Rows* first_block(Rows* p) {
        return Product::kPlace == WeightPlace::cluster ? shared_of_rank(p, 0) : p;
    }

    // Reset-before, first pass: of z and n.
    SEQREC_FN void candidate(int s, int turn) {
        const Inputs in = inputs(s, turn);
        for_each_of(turn, [&](int i, int unit, int r) {
            const std::int64_t event = step(s).event[r];
            if (event < 0) {
                return clear_slots(r, unit);
            }
            const UnitState<T, kSaved>& state = in.unit[i];
            const UnitNoise<T> noise = noise_of(event, unit);
            const T h = state.h_before;
            T dh = dh_[unit].of[r] + in.dy[i];
            const T past = noise.split(noise.keep_h, dh);
            const auto grad = gru_blend_grad<M>(state.saved[1], state.saved[2], h, dh, noise.scale);
            store_slot(event, r, 1, unit, grad.z_pre);
            store_slot(event, r, 2, unit, grad.n_pre);
            args_.h_before[event * hidden_ + unit] = narrow<S>(h);
            args_.rh_before[event * hidden_ + unit] = narrow<S>(state.saved[0] * h);
            dh_[unit].of[r] = grad.h + past;
        });
    }
    // And second: of r, from that of r * h.
    SEQREC_FN void reset(int s, int turn) {
        const Inputs in = inputs(s, turn);
        T drh[kElements] = {};
        product_.template add_transposed<1>(dgates_, 2, turn, drh);
        for_each_of(turn, [&](int i, int unit, int r) {
            const std::int64_t event = step(s).event[r];
            if (event >= 0) {
                const T gate = in.unit[i].saved[0], h = in.unit[i].h_before;
                store_slot(event, r, 0, unit, gru_reset_grad<M>(gate, drh[i] * h));
                dh_[unit].of[r] += drh[i] * gate;
            }
        });
    }

    SEQREC_FN void add_recurrent(int s, int turn) {
        T sum[kElements] = {};
        product_.template add_transposed<kTwoPasses ? 2 : kGates>(dgates_, 0, turn, sum);
        for_each_of(turn, [&](int i, int unit, int r) {
            if (step(s).event[r] >= 0) {
                dh_[unit].of[r] = step(s).reset[r] ? T(0) : dh_[unit].of[r] + sum[i];
            }
        });
    }

    const RnnLoopGradArgs<S>& args_;
    TileRows<kRows>& tile_;
    BackwardStep<S, kRows>* steps_;
    Rows* warp_sums_;  // of every warp and block, in the first block; cells with attention
    int hidden_;
    Product product_;
    Operand dgates_;
    Rows *dh_, *dc_;
    Inputs ahead_{};
};

template <class Cell, class S>
void run_backward(const RnnLoopGradArgs<S>& args, cudaStream_t stream) {
    run_loop<BackwardLoop, Cell, S>("rnn_backward", args, stream);
}

}  // namespace cuda
}  // namespace seqrec_fast
