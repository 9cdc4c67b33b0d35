// One step of training a session recommender: lookup, dropout, recurrent layers, a loss against
// sampled negatives, back through all of them, and the update of every parameter.
#pragma once

#include <vector>

#include "ops/rnn.h"
#include "ops/row_update.h"
#include "ops/sampled_loss.h"

namespace seqrec_fast {

// A parameter and what the update rule keeps of it, of the same shape.
template <class T>
struct Trained {
    MatrixView<T> value, mean, square;
};

template <class T>
struct TrainedLayer {
    Trained<T> weight_ih, weight_hh, bias_ih, bias_hh;  // as in RnnParameters
};

// N events of B sessions, V items, H hidden_size, L layers.
template <class T>
struct SessionStep {
    CellKind cell;
    RowUpdate<T> rule;       // of all parameters; without states
    Trained<T> input_table;  // (V, input_size), or (V, G * H) if the first layer has no weight_ih
    Trained<T> item_table;   // (V, H); absent: the input table
    Trained<T> item_bias;    // (1, V)
    std::vector<TrainedLayer<T>> layers;

    SampledLoss loss;
    Collisions collisions;
    double elu, regularization;  // see SampledLossArgs
    double dropout_input, dropout_hidden;
    bool carry_dropout;  // h_n is what dropout leaves of each layer's state
    std::uint64_t seed;  // of dropout

    MatrixView<const std::int64_t> items, target;  // (1, N)
    MatrixView<const std::int64_t> offsets;        // (1, B + 1), see SequenceLayout::ragged
    MatrixView<const std::uint8_t> reset;          // (1, N); optional
    MatrixView<const std::int64_t> negatives;      // (1, S)
    MatrixView<const T> log_q;                     // (1, S); optional
    MatrixView<const T> target_log_q;              // (1, N); optional
    MatrixView<const T> h_0, c_0;                  // (L * B, H); optional: zeros
    MatrixView<T> h_n, c_n;                        // (L * B, H); c_n: LSTM
};

// Returns the mean loss of the events. If that is not finite, no parameter is changed. The
// gradient does not go back into h_0. Every mismatch throws before anything is written.
template <class T>
double session_step(const char* function, const SessionStep<T>& step);

}  // namespace seqrec_fast
