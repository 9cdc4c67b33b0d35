// The noise of one unit at one event, see RnnNoiseArgs for where its bits come from.
#pragma once

#include <cstdint>

#include "cuda/half.h"
#include "cuda/rnn_kernels.h"

namespace seqrec_fast {
namespace cuda {

template <class T>
struct UnitNoise {
    T scale, keep_h, keep_c;  // of the candidate; how much of h and of c stays
    bool drops, zones;        // the layer has such noise: the same for all threads
    T rounding;               // of arrays: a smaller part of a difference is nothing

    // `after` is what the step made of `before`.
    SEQREC_FN T blend(T keep, T before, T after) const {
        return zones ? keep * before + (1 - keep) * after : after;
    }
    // Takes from the gradient of a blended state what goes past the cell, and returns it.
    SEQREC_FN T split(T keep, T& grad) const {
        if (!zones) {
            return T(0);
        }
        const T past = keep * grad;
        grad *= 1 - keep;
        return past;
    }
};

template <class S>
constexpr double kArrayRounding = std::is_same_v<S, Bfloat16>  ? 0x1p-7
                                  : std::is_same_v<S, Float16> ? 0x1p-10
                                                               : 0x1p-21;

// The bits of a unit, asked for early.
template <class T>
SEQREC_FN std::uint8_t noise_bits(const LoopNoise<T>& noise, std::int64_t at) {
    return noise.bits == nullptr ? std::uint8_t{0} : noise.bits[at];
}
template <class S, class T>
SEQREC_FN UnitNoise<T> unit_noise(const LoopNoise<T>& noise, std::uint8_t bits) {
    UnitNoise<T> unit{T(1), T(0), T(0), false, noise.zoneout > 0, T(kArrayRounding<S>)};
    if (noise.bits != nullptr) {
        unit.scale = (bits & kDropped) != 0 ? T(0) : noise.candidate_scale;
        unit.keep_h = (bits & kKeepsH) != 0 ? T(1) : T(0);
        unit.keep_c = (bits & kKeepsC) != 0 ? T(1) : T(0);
        unit.drops = noise.candidate_scale > 1;
    } else {
        unit.keep_h = unit.keep_c = noise.zoneout;
    }
    return unit;
}

}  // namespace cuda
}  // namespace seqrec_fast
