// Gradients of the expert gate's logits on a GPU: a warp has a row.
#include "cuda/gate_kernels.h"
#include "cuda/gate_row.h"
#include "cuda/launch.h"

namespace seqrec_fast {
namespace cuda {
namespace {

// With s the scores, t what divides them and g the gradients of the weights:
//     shares of their sum   scale / t ds_j (g_j - sum(s_i g_i) / t)
//     softmax over all      the same, where g is 0 for experts that are not chosen
//     neither               scale ds_j g_j
template <class T, class Score>
SEQREC_FN void gate_row_grad(const ExpertGateGradArgs<T>& args, std::int64_t number) {
    using M = DeviceMath<T>;
    const GateInputs<T>& in = args.inputs;
    const GateRow<T> row(in, number);
    const std::int64_t* const ids = args.ids + number * in.k;
    const T* const dweights = args.dweights + number * in.k;
    T* const dlogits = args.dlogits + number * in.experts;
    const bool shares = shares_of_chosen(in), dense = Score::kSumsOverExperts && !shares;
    SoftmaxSums<T> sums;
    if (dense) {
        sums = row.softmax_sums();
    } else {
        sums.total = 1;
        if (Score::kSumsOverExperts) {
            sums.shift = -std::numeric_limits<T>::max();
            for (std::int64_t j = lane_index(); j < in.k; j += kWarp) {
                const T x = ids[j] < 0 ? sums.shift : row.finite_logit(ids[j]);
                sums.shift = x > sums.shift ? x : sums.shift;
            }
            sums.shift = warp_max(sums.shift);
        }
    }
    const auto score = [&](std::int64_t id) {
        return id < 0 ? T(0) : Score::template apply<M>(row.finite_logit(id), sums.shift);
    };
    T total = 0, mean = 0;
    for (std::int64_t j = lane_index(); j < in.k; j += kWarp) {
        const T s = score(ids[j]);
        total += s;
        mean += s * (ids[j] < 0 ? T(0) : dweights[j]);
    }
    total = warp_sum(total);
    sums.total = shares ? total : sums.total;
    mean = warp_sum(mean);
    mean = sums.total > 0 && (dense || shares) ? mean / sums.total : T(0);
    const T factor = row.factor(sums);
    for (std::int64_t e = lane_index(); e < in.experts; e += kWarp) {
        const T x =
            dense && sums.total > 0 ? row.finite_logit(e) : std::numeric_limits<T>::quiet_NaN();
        dlogits[e] = x == x ? -mean * factor * Score::template apply<M>(x, sums.shift) : T(0);
    }
    __syncwarp();
    for (std::int64_t j = lane_index(); j < in.k; j += kWarp) {
        if (ids[j] >= 0 && sums.total > 0) {
            const T x = row.finite_logit(ids[j]);
            const T slope = Score::template grad<M>(x, score(ids[j]));
            dlogits[ids[j]] += factor * slope * (dweights[j] - (dense ? T(0) : mean));
        }
    }
}

template <class T>
__global__ void __launch_bounds__(kGateThreads)
    expert_gate_grad_kernel(ExpertGateGradArgs<T> args) {
    const std::int64_t number = warp_index();
    if (number >= args.inputs.rows) {
        return;
    }
    with_score(args.inputs.score,
               [&](auto score) { gate_row_grad<T, decltype(score)>(args, number); });
}

}  // namespace
}  // namespace cuda

template <class T>
void expert_gate_grad_cuda(const ExpertGateGradArgs<T>& args, cudaStream_t stream) {
    constexpr std::int64_t kRows = cuda::kGateThreads / cuda::kWarp;
    cuda::launch("expert_gate_grad", cuda::expert_gate_grad_kernel<T>,
                 {(args.inputs.rows + kRows - 1) / kRows, cuda::kGateThreads}, stream, args);
}

template void expert_gate_grad_cuda(const ExpertGateGradArgs<float>&, cudaStream_t);
template void expert_gate_grad_cuda(const ExpertGateGradArgs<double>&, cudaStream_t);

}  // namespace seqrec_fast
