// A dense mixture with several gates on a GPU: the softmax of the logits first, then sums of rows.
// Bound by memory: the experts' rows are read once for several gates, 16 bytes to a lane. A result
// depends on its row alone.
#include <limits>

#include "cuda/device_math.h"
#include "cuda/launch.h"
#include "cuda/multi_gate_kernels.h"
#include "cuda/row_vectors.h"
#include "cuda/unroll.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;

// Some lanes have the logits of a gate for a row; all lanes of the warp take part.
template <class T>
__global__ void __launch_bounds__(kThreads)
    softmax_kernel(const T* logits, std::int64_t rows, std::int64_t experts, RowLanes lanes,
                   T* shares) {
    using M = DeviceMath<T>;
    constexpr T kNone = -std::numeric_limits<T>::infinity();
    const std::int64_t row = lanes.row(), first = row * experts;
    const std::int64_t count = row < rows ? experts : 0;
    T most = kNone;
    for (std::int64_t e = lanes.lane(); e < count; e += lanes.count()) {
        most = logits[first + e] > most ? logits[first + e] : most;
    }
    most = lanes.max(most);
    // So that -inf - most is -inf, and not NaN, where all are.
    most = most == kNone ? T(0) : most;
    T sum = 0;
    for (std::int64_t e = lanes.lane(); e < count; e += lanes.count()) {
        const T power = M::exp_of_negative(logits[first + e] - most);
        shares[first + e] = power;
        sum += power;
    }
    sum = lanes.sum(sum);
    for (std::int64_t e = lanes.lane(); e < count; e += lanes.count()) {
        shares[first + e] = sum == T(0) ? T(0) : shares[first + e] / sum;
    }
}

// to[s, n] = the sum over t of factor(t, s, n) from[t, n], of `sums` and `terms` matrices of
// (rows, dim). factor(t, s, n) is shares[g, n, e], where the term is e and the sum g, or the other
// way round. A term of factor 0 is left out, so that it may be anything.
template <class T>
struct WeightedSums {
    const T* shares;
    const T* from;
    T* to;
    std::int64_t terms, sums, rows, dim;
    std::int64_t experts;
    bool terms_are_experts;

    SEQREC_FN T factor(std::int64_t t, std::int64_t s, std::int64_t n) const {
        const std::int64_t gate = terms_are_experts ? s : t, expert = terms_are_experts ? t : s;
        return shares[(gate * rows + n) * experts + expert];
    }
};

// Some lanes have a row, for up to kSums sums at a time.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    weighted_sums_kernel(WeightedSums<T> args, RowLanes lanes) {
    constexpr int kSums = 4;
    const std::int64_t n = lanes.row();
    if (n >= args.rows) {
        return;
    }
    const std::int64_t matrix = args.rows * args.dim;
    for (std::int64_t i = lanes.lane() * N; i < args.dim; i += lanes.count() * N) {
        const std::int64_t at = n * args.dim + i;
        for (std::int64_t first = 0; first < args.sums; first += kSums) {
            const std::int64_t left = args.sums - first;
            RowVector<T, N> sum[kSums] = {};
            for (std::int64_t t = 0; t < args.terms; ++t) {
                const auto row = RowVector<T, N>::load(args.from + t * matrix + at);
                SEQREC_UNROLL
                for (int s = 0; s < kSums; ++s) {
                    const T factor = s < left ? args.factor(t, first + s, n) : T(0);
                    SEQREC_UNROLL
                    for (int c = 0; c < N; ++c) {
                        const T term = factor == T(0) ? T(0) : row.values[c];
                        sum[s].values[c] = std::fma(factor, term, sum[s].values[c]);
                    }
                }
            }
            SEQREC_UNROLL
            for (int s = 0; s < kSums; ++s) {
                if (s < left) {
                    sum[s].store(args.to + (first + s) * matrix + at);
                }
            }
        }
    }
}

// Some lanes have a row for a gate; all lanes of the warp take part.
template <class T, int N>
__global__ void __launch_bounds__(kThreads)
    logit_grad_kernel(MultiGateArgs<T> args, const T* shares, RowLanes lanes) {
    const std::int64_t row = lanes.row(), n = row % args.rows, first = row * args.experts;
    const bool exists = row < args.gates * args.rows;
    T mean = 0;
    for (std::int64_t e = 0; e < args.experts; ++e) {
        T dot = 0;
        if (exists) {
            dot = lanes.dot<T, N>(args.dmixture + row * args.dim,
                                  args.expert_outputs + (e * args.rows + n) * args.dim, args.dim);
        }
        dot = lanes.sum(dot);
        if (exists) {
            mean = std::fma(shares[first + e], shares[first + e] == T(0) ? T(0) : dot, mean);
            if (e % lanes.count() == lanes.lane()) {
                args.dlogits[first + e] = dot;
            }
        }
    }
    // Each lane finds what it wrote itself.
    for (std::int64_t e = lanes.lane(); exists && e < args.experts; e += lanes.count()) {
        const T share = shares[first + e];
        args.dlogits[first + e] = share == T(0) ? T(0) : share * (args.dlogits[first + e] - mean);
    }
}

LaunchShape shape_of(std::int64_t rows, RowLanes lanes) {
    return {(rows * lanes.count() + kThreads - 1) / kThreads, kThreads};
}

template <class T>
void softmax(const MultiGateArgs<T>& args, T* shares, cudaStream_t stream) {
    const auto lanes = RowLanes::of(args.experts);
    const std::int64_t rows = args.gates * args.rows;
    launch("multi_gate_mixture", softmax_kernel<T>, shape_of(rows, lanes), stream, args.gate_logits,
           rows, args.experts, lanes, shares);
}

template <class T>
void weighted_sums(const WeightedSums<T>& args, cudaStream_t stream) {
    with_row_vectors<T>(args.dim, {args.from, args.to}, [&](auto n) {
        const auto lanes = RowLanes::of(args.dim / n);
        launch("multi_gate_mixture", weighted_sums_kernel<T, n>, shape_of(args.rows, lanes), stream,
               args, lanes);
    });
}

}  // namespace
}  // namespace cuda

template <class T>
void multi_gate_cuda(const MultiGateArgs<T>& args, T* shares, cudaStream_t stream) {
    cuda::softmax(args, shares, stream);
    cuda::weighted_sums<T>({shares, args.expert_outputs, args.mixture, args.experts, args.gates,
                            args.rows, args.dim, args.experts, true},
                           stream);
}

template <class T>
void multi_gate_grad_cuda(const MultiGateArgs<T>& args, T* shares, cudaStream_t stream) {
    cuda::softmax(args, shares, stream);
    cuda::weighted_sums<T>({shares, args.dmixture, args.dexpert, args.gates, args.experts,
                            args.rows, args.dim, args.experts, false},
                           stream);
    cuda::with_row_vectors<T>(args.dim, {args.dmixture, args.expert_outputs}, [&](auto n) {
        const auto lanes = cuda::RowLanes::of(args.dim / n);
        cuda::launch("multi_gate_mixture", cuda::logit_grad_kernel<T, n>,
                     cuda::shape_of(args.gates * args.rows, lanes), stream, args,
                     static_cast<const T*>(shares), lanes);
    });
}

#define SEQREC_INSTANTIATE(T)                                                 \
    template void multi_gate_cuda(const MultiGateArgs<T>&, T*, cudaStream_t); \
    template void multi_gate_grad_cuda(const MultiGateArgs<T>&, T*, cudaStream_t)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
