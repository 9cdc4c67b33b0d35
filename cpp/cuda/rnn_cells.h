// A step of every recurrent cell for one unit of one row, forward and backward, in the form that
// the time loops call. The formulas are those of cells/.
#pragma once

#include "cells/augru_cell-inl.h"
#include "cells/cell_kind.h"
#include "cells/gru_cell-inl.h"
#include "cells/lstm_cell-inl.h"
#include "cells/rnn_cell-inl.h"
#include "cuda/device_math.h"
#include "cuda/rnn_noise.h"

namespace seqrec_fast {
namespace cuda {

// What backward needs of one unit, one row and one step.
template <class T, int kSaved>
struct UnitState {
    T saved[kSaved + 1];  // of a plain RNN: its output
    T h_before, c_before, attention;
};

// Gradients with respect to the gates' sums, in their slots, and to what goes past the matrix.
template <class T, int kSlots>
struct UnitGrad {
    T slots[kSlots];
    T h, c, attention;
};

// Reset-after GRUs. Any of those with attention stands for all: which it is, a step is told.
template <CellKind kCell>
struct GruLoopCell {
    static constexpr CellKind kKind = kCell;

    template <class M, class T = typename M::V>
    static SEQREC_FN T step(CellKind kind, const T (&x)[3], const T (&sum)[3], T h, T& /*c*/,
                            T attention, T scale, T* saved) {
        const T r = M::sigmoid(x[0] + sum[0]);
        const T z = M::sigmoid(x[1] + sum[1]);
        const T n = gru_candidate<M>(x[2], sum[2], r);
        saved[0] = r;
        saved[1] = z;
        saved[2] = n;
        saved[3] = sum[2];
        return has_attention(kKind) ? attention_blend<M>(kind, z, scale * n, h, attention)
                                    : gru_blend<M>(z, scale * n, h);
    }

    template <class M, class T = typename M::V>
    static SEQREC_FN UnitGrad<T, 4> step_grad(CellKind kind, const UnitState<T, 4>& unit,
                                              const UnitNoise<T>& noise, T dh, T /*dc*/) {
        const T r = unit.saved[0], z = unit.saved[1], n = unit.saved[2], h_n = unit.saved[3];
        GruGrad<M> grad;
        T attention = 0;
        if constexpr (has_attention(kKind)) {
            const auto all =
                attention_blend_grad<M>(kind, z, n, unit.h_before, dh, noise.scale, unit.attention);
            grad = all;
            attention = all.attention;
        } else {
            grad = gru_blend_grad<M>(z, n, unit.h_before, dh, noise.scale);
        }
        return {{grad.n_pre, gru_reset_grad<M>(r, grad.n_pre * h_n), grad.z_pre, grad.n_pre * r},
                grad.h,
                T(0),
                attention};
    }
};

// Its two passes are in the loops.
struct GruResetBeforeLoopCell {
    static constexpr CellKind kKind = CellKind::gru_reset_before;
};

struct LstmLoopCell {
    static constexpr CellKind kKind = CellKind::lstm;

    template <class M, class T = typename M::V>
    static SEQREC_FN T step(CellKind, const T (&x)[4], const T (&sum)[4], T /*h*/, T& c,
                            T /*attention*/, T scale, T* saved) {
        const auto gates =
            lstm_gates<M>(x[0] + sum[0], x[1] + sum[1], x[2] + sum[2], x[3] + sum[3], c, scale);
        saved[0] = gates.i;
        saved[1] = gates.f;
        saved[2] = gates.g;
        saved[3] = gates.o;
        saved[4] = c = gates.c;
        return lstm_output<M>(gates.o, gates.c);
    }

    template <class M, class T = typename M::V>
    static SEQREC_FN UnitGrad<T, 4> step_grad(CellKind, const UnitState<T, 5>& unit,
                                              const UnitNoise<T>& noise, T dh, T dc) {
        const T(&saved)[6] = unit.saved;
        // With zoneout what was saved is the state after it.
        const T c = noise.zones ? lstm_cell_state<M>(saved[0], saved[1], saved[2], unit.c_before,
                                                     noise.scale)
                                : saved[4];
        const auto grad = lstm_step_grad<M>(saved[0], saved[1], saved[2], saved[3], unit.c_before,
                                            c, dh, dc, noise.scale);
        return {{grad.i_pre, grad.f_pre, grad.g_pre, grad.o_pre}, T(0), grad.c, T(0)};
    }
};

struct RnnLoopCell {
    static constexpr CellKind kKind = CellKind::rnn_tanh;  // rnn_relu has the same counts

    template <class M, class T = typename M::V>
    static SEQREC_FN T step(CellKind kind, const T (&x)[1], const T (&sum)[1], T /*h*/, T& /*c*/,
                            T /*attention*/, T scale, T* /*saved*/) {
        return scale * rnn_activate<M>(kind, x[0] + sum[0]);
    }

    template <class M, class T = typename M::V>
    static SEQREC_FN UnitGrad<T, 1> step_grad(CellKind kind, const UnitState<T, 0>& unit,
                                              const UnitNoise<T>& noise, T dh, T /*dc*/) {
        const T h = noise.drops || noise.zones
                        ? rnn_activation<M>(unit.saved[0], unit.h_before, noise.keep_h, noise.scale,
                                            noise.rounding)
                        : unit.saved[0];
        return {{rnn_activate_grad<M>(kind, h, noise.scale * dh)}, T(0), T(0), T(0)};
    }
};

}  // namespace cuda
}  // namespace seqrec_fast
