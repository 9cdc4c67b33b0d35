// Noise of gates from random bits. M is a vector arithmetic: cpu/simd_math-inl.h.

// Per-target include guard
#if defined(SEQREC_CELLS_GATE_NOISE_CELL_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CELLS_GATE_NOISE_CELL_INL_H_
#undef SEQREC_CELLS_GATE_NOISE_CELL_INL_H_
#else
#define SEQREC_CELLS_GATE_NOISE_CELL_INL_H_
#endif

#include "cells/target_macros.h"

SEQREC_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace SEQREC_TARGET_NAMESPACE {

struct GateNoiseCell {
    // Strictly between 0 and 1 from the upper 23 bits of a word, so that float32 has it.
    template <class M, class V = typename M::V>
    static SEQREC_FN V uniform(V upper_bits) {
        return M::mul(M::add(upper_bits, M::set(0.5)), M::set(0x1p-23));
    }
    // Standard Gumbel from a uniform number.
    template <class M, class V = typename M::V>
    static SEQREC_FN V gumbel(V u) {
        return M::neg(M::log(M::neg(M::log(u))));
    }
    // Two standard normal numbers from two uniform ones (Box and Muller, 1958).
    template <class M, class V = typename M::V>
    static SEQREC_FN void normal(V u, V v, V& first, V& second) {
        const V minus_log = M::neg(M::log(u));
        const V radius = M::sqrt(M::add(minus_log, minus_log));
        const V angle = M::mul(v, M::set(6.283185307179586));
        first = M::mul(radius, M::cos(angle));
        second = M::mul(radius, M::sin(angle));
    }
};

}  // namespace SEQREC_TARGET_NAMESPACE
}  // namespace seqrec_fast
SEQREC_AFTER_NAMESPACE();

#endif  // include guard
