// Input gates of many rows as one product: those of a chunk of events, or of a whole catalogue.

// Per-target include guard
#if defined(SEQREC_CPU_RNN_INPUT_GATES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_RNN_INPUT_GATES_INL_H_
#undef SEQREC_CPU_RNN_INPUT_GATES_INL_H_
#else
#define SEQREC_CPU_RNN_INPUT_GATES_INL_H_
#endif

#include "cpu/dot_product-inl.h"
#include "cpu/packed_rnn.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Writes a row's product plus bias in vector order: the input gates.
template <class T>
struct InputGatesOp {
    const T* bias;
    T* out;
    std::int64_t stride;
    std::int64_t vectors_per_part;

    InputGatesOp part(std::int64_t i) const {
        const std::int64_t offset = i * vectors_per_part * kPackedLanes<T>;
        return {bias + offset, out + offset, stride, vectors_per_part};
    }
    template <int kVectors>
    HWY_INLINE void init(std::int64_t, std::int64_t lane,
                         hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        for (int v = 0; v < kVectors; ++v) {
            acc[v] = hn::LoadU(Lanes<T>(), bias + v * kPackedLanes<T> + lane);
        }
    }
    template <int kVectors>
    HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                           const hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        T* to = out + row * stride + lane;
        for (int v = 0; v < kVectors; ++v) {
            hn::StoreU(acc[v], Lanes<T>(), to + v * kPackedLanes<T>);
        }
    }
};

// out: (n, n_vectors * lanes).
template <int kGates, class T>
void input_gates(const PackedRnn<T>& weights, const T* const* x_rows, std::int64_t n, T* out) {
    const InputGatesOp<T> op{weights.input_bias.data(), out, weights.n_vectors() * kPackedLanes<T>,
                             kGates};
    if constexpr (kGates > 1) {
        multiply_gates<kGates>(op, x_rows, n, weights.input_size, weights.input, RowRange::dynamic);
    } else {
        multiply_plain(op, x_rows, n, weights.input_size, weights.input, RowRange::dynamic);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
