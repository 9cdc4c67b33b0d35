// What the forward passes of all recurrent cells share: what a step sees, and the time loop.

// Per-target include guard
#if defined(SEQREC_CPU_RNN_FORWARD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_RNN_FORWARD_INL_H_
#undef SEQREC_CPU_RNN_FORWARD_INL_H_
#else
#define SEQREC_CPU_RNN_FORWARD_INL_H_
#endif

#include <algorithm>

#include "cpu/dot_product-inl.h"
#include "cpu/rnn_kernels.h"
#include "cpu/row_writer-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Asks for whole rows of `width` values.
template <class T>
HWY_INLINE void fetch_rows(const T* const* row, const T* const* end, std::int64_t width) {
    for (; row < end; ++row) {
        for (std::int64_t k = 0; k < width; k += kPackedLanes<T>) {
            __builtin_prefetch(*row + k, 0, 2);
        }
    }
}

// What a cell's step sees. Rows are the tile's; per-row pointers name where a row's data lies.
template <class T>
struct StepView {
    const PackedRnn<T>* weights;
    bool odd_step;
    std::int64_t rows;          // still active
    std::int64_t state_terms;   // of products with h: S, or 0 while all states are zeros
    std::int64_t state_stride;  // of h, h_next, c and work: padded S or H, whichever is larger
    const T* h;                 // (rows, state_stride), padded with what no unit reads
    const T* const* h_rows;     // rows of h
    T* h_next;
    T* c;                       // (rows, state_stride), LSTM: updated in place
    T* work;                    // (rows, state_stride)
    const T* const* work_rows;  // rows of work
    const T* const* x_gates;    // (rows) pointers to n_vectors * lanes, in vector order, with bias
    T* const* y_rows;           // (rows) pointers to S values each; null if not wanted
    T* const* saved_rows;       // (rows) pointers; null if not wanted
    RowWriter<T> saved_writer;
    const T* dropout;    // (rows, state_stride): what multiplies candidates; optional
    const T* attention;  // (rows); cells with attention
    // Rows that come next and lie in a large matrix: input gates of a table, or inputs.
    const T* const* ahead;
    std::int64_t n_ahead, ahead_width;

    HWY_INLINE hn::Vec<Lanes<T>> candidate_scale(std::int64_t row, std::int64_t unit) const {
        const Lanes<T> d;
        return dropout == nullptr ? hn::Set(d, T(1))
                                  : hn::LoadU(d, dropout + row * state_stride + unit);
    }

    // Writes one vector for the backward pass. A narrower one than a cache line does not go past
    // the caches, because the rest of its line comes later.
    HWY_INLINE void save(hn::Vec<Lanes<T>> value, T* to) const {
        if constexpr (lane_count<T>() == kPackedLanes<T>) {
            saved_writer.write(value, to);
        } else {
            hn::StoreU(value, Lanes<T>(), to);
        }
    }

    // Asks for the part of them that is due when the units from `block` on are computed, so that
    // the memory's time passes under the arithmetic.
    HWY_INLINE void fetch_ahead(std::int64_t block, std::int64_t blocks = 1) const {
        const std::int64_t end = std::min(weights->blocks, block + blocks);
        fetch_rows(ahead + n_ahead * block / weights->blocks,
                   ahead + n_ahead * end / weights->blocks, ahead_width);
    }
};

// One step of a cell for all active rows.
template <class T>
using CellStep = void (*)(const StepView<T>&);

// All steps of all sessions, in rnn_forward_loop_cpu.cpp.
template <class T>
void run_forward(const RnnForwardArgs<T>& args, CellStep<T> step);

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
