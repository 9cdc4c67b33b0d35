// Losses of targets against sampled negatives on a GPU, from the products of their vectors: a block
// has a row. Bound: memory, the row's products, which its passes find in the cache after the first.
#include "cells/sampled_losses-inl.h"
#include "cuda/block.h"
#include "cuda/device_math.h"
#include "cuda/launch.h"
#include "cuda/sampled_loss_kernels.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr int kThreads = 128, kWarps = kThreads / kWarp;

// The scores of a row's negatives, -inf where one does not count. A thread has every kThreads-th.
template <class T>
class BlockNegatives {
  public:
    using M = DeviceMath<T>;

    SEQREC_FN BlockNegatives(T* scores, std::int64_t n, T elu, T* shared)
        : scores_(scores), n_(n), elu_(elu), shared_(shared) {}

    template <int n, class Add>
    SEQREC_FN void sums(T (&results)[n], const Add& add) const {
        for (T& result : results) {
            result = 0;
        }
        each([&](T* at) {
            T values[n];
            add(*at, values);
            for (int i = 0; i < n; ++i) {
                results[i] += if_counts(*at, values[i]);
            }
        });
        for (T& result : results) {
            result = block_sum<kWarps>(result, shared_);
        }
    }
    template <class Value>
    SEQREC_FN T sum(const Value& value) const {
        T result = 0;
        each([&](T* at) { result += if_counts(*at, value(*at)); });
        return block_sum<kWarps>(result, shared_);
    }
    SEQREC_FN T largest() const {
        T most = std::numeric_limits<T>::lowest();
        each([&](T* at) { most = *at > most ? *at : most; });
        return block_max<kWarps>(most, shared_);
    }
    // By derivatives, 0 for those that do not count; through the ELU, if there is one.
    template <class Derivative>
    SEQREC_FN void replace(const Derivative& derivative) const {
        each([&](T* at) {
            const T score = *at;
            const T slope = elu_ >= 0 && score <= 0 ? score + elu_ : T(1);
            *at = if_counts(score, derivative(score) * slope);
        });
    }
    // NaN counts: it must show.
    static SEQREC_FN T if_counts(T score, T value) {
        return score == -std::numeric_limits<T>::infinity() ? T(0) : value;
    }
    SEQREC_FN T total(T sum) const { return block_sum<kWarps>(sum, shared_); }

  private:
    template <class Visit>
    SEQREC_FN void each(const Visit& visit) const {
        for (std::int64_t j = threadIdx.x; j < n_; j += kThreads) {
            visit(scores_ + j);
        }
    }

    T* scores_;
    std::int64_t n_;
    T elu_;
    T* shared_;
};

template <class T>
SEQREC_FN T elu_of(T score, T alpha) {
    return alpha >= 0 && score < 0 ? alpha * std::expm1(score) : score;
}

template <class T, class Loss>
SEQREC_FN void finish_row(const SampledRowsArgs<T>& args, Loss loss, T* shared) {
    const std::int64_t row = blockIdx.x, n = args.n_negatives, target = args.target[row];
    const std::int64_t group = row / ((args.rows + args.groups - 1) / args.groups);
    const std::int64_t* const ids = args.negatives + group * n;
    const T* const log_q = args.log_q == nullptr ? nullptr : args.log_q + group * n;
    T* const scores = args.products + row * n;
    const T scale = static_cast<T>(args.scale), alpha = static_cast<T>(args.elu);
    for (std::int64_t j = threadIdx.x; j < n; j += kThreads) {
        const bool left_out = (args.collisions == Collisions::mask && ids[j] == target) ||
                              (args.collisions == Collisions::own && j == row);
        const T adjust = (args.bias == nullptr ? T(0) : args.bias[ids[j]]) -
                         (log_q == nullptr ? T(0) : log_q[j]);
        const T score = std::fma(scale, scores[j], adjust);
        constexpr T kNone = -std::numeric_limits<T>::infinity();
        // What does not count stays -inf.
        scores[j] = left_out || score == kNone ? kNone : elu_of(score, alpha);
    }
    const T own = elu_of(scale * args.target_products[row] +
                             (args.bias == nullptr ? T(0) : args.bias[target]) -
                             (args.target_log_q == nullptr ? T(0) : args.target_log_q[row]),
                         alpha);
    const BlockNegatives<T> negatives(scores, n, alpha, shared);
    const T value = loss.value(negatives, own);
    if (threadIdx.x == 0) {
        args.loss[row] = value;
    }
    if (args.row_grad == nullptr) {
        return;
    }
    const T down = loss.derivatives(negatives, own, args.row_grad[row]);
    if (threadIdx.x == 0) {
        args.dtarget_scores[row] = alpha >= 0 && own <= 0 ? down * (own + alpha) : down;
    }
}

template <class T>
__global__ void __launch_bounds__(kThreads) sampled_loss_kernel(SampledRowsArgs<T> args) {
    SEQREC_SHARED T shared[kWarps];
    switch (args.kind) {
        case SampledLoss::softmax: return finish_row(args, SoftmaxLoss<T>(), shared);
        case SampledLoss::corrected_softmax: {
            CorrectedSoftmaxLoss<T> loss{};
            loss.n_negatives = args.n_negatives;
            return finish_row(args, loss, shared);
        }
        case SampledLoss::bpr_max: {
            BprMaxLoss<T> loss{};
            loss.regularization = static_cast<T>(args.regularization);
            return finish_row(args, loss, shared);
        }
        case SampledLoss::top1_max: return finish_row(args, Top1MaxLoss<T>(), shared);
        case SampledLoss::gbce:
            return finish_row(args, GbceLoss<T>{static_cast<T>(args.beta)}, shared);
    }
}

}  // namespace
}  // namespace cuda

template <class T>
void sampled_loss_rows_cuda(const char* function, const SampledRowsArgs<T>& args,
                            cudaStream_t stream) {
    cuda::launch(function, cuda::sampled_loss_kernel<T>, {args.rows, cuda::kThreads}, stream, args);
}

template void sampled_loss_rows_cuda(const char*, const SampledRowsArgs<float>&, cudaStream_t);
template void sampled_loss_rows_cuda(const char*, const SampledRowsArgs<double>&, cudaStream_t);

}  // namespace seqrec_fast
