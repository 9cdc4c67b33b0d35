// Losses of targets against sampled negatives: checked, then computed.
#pragma once

#include <cstdint>
#include <string>

#include "args/sampled_loss_args.h"
#include "base/tensor_view.h"

namespace seqrec_fast {

// Names as Python has them; they throw std::invalid_argument for any other.
SampledLoss parse_sampled_loss(const std::string& name);
Collisions parse_collisions(const std::string& name);

// What negatives and their use have to be, on every device: one to `rows` sets of one or more.
void check_negatives(const char* function, const MatrixView<const std::int64_t>& negatives,
                     Collisions collisions, std::int64_t rows);

// See SampledLossArgs; negatives (G, S), log_q as they are. per_row: G = N, and no dnegatives.
template <class T>
struct SampledLossCall {
    SampledLoss kind;
    Collisions collisions;
    MatrixView<const T> hidden, weight, bias;
    MatrixView<const std::int64_t> target, negatives;
    bool per_row;
    MatrixView<const T> log_q, target_log_q;
    double scale, elu, regularization, beta;
    Precision precision;
    MatrixView<T> loss;
    MatrixView<const T> row_grad;  // optional, and then the gradients are
    MatrixView<T> dhidden, dtarget_scores, dnegatives, dnegative_bias;
};

template <class T>
void sampled_loss(const char* function, const SampledLossCall<T>& call);

}  // namespace seqrec_fast
