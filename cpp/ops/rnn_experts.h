// Recurrent experts: a layer per expert, each over sessions of its own, in one call.
#pragma once

#include <cstdint>

#include "ops/rnn.h"

namespace seqrec_fast {

// M experts of B sessions each: session b of expert m is number m * B + b, and the events of an
// expert lie together.
template <class T>
struct RnnExperts {
    std::int64_t count;
    // The rows of all experts one after another: (M * G * H, I), biases (M, G * H).
    RnnParameters<T> parameters;
    MatrixView<const std::int64_t> offsets;  // (1, M * B + 1)
    Precision precision = Precision::full;
    bool float32_states = false;  // as in PackedRnn
};

// Bit for bit what rnn_forward and rnn_backward give for one expert after another. `call` has the
// events and states of all of them, and no weights, layout, ids or gate_table; gradients of the
// weights are stacked as the weights. Noise is drawn for each expert as if it were alone.
template <class T>
void rnn_experts_forward(const char* function, const RnnExperts<T>& experts,
                         const RnnForward<T>& call);
template <class T>
void rnn_experts_backward(const char* function, const RnnExperts<T>& experts,
                          const RnnBackward<T>& call);

}  // namespace seqrec_fast
