// The expert gate on a GPU: a warp chooses and weighs the experts of a row.
#include "cuda/gate_kernels.h"
#include "cuda/gate_row.h"
#include "cuda/launch.h"

namespace seqrec_fast {
namespace cuda {
namespace {

// What experts are chosen by: logits, or with a bias the sums of it and logits or scores.
template <class T, class Score>
struct GateKeys {
    using M = DeviceMath<T>;
    const GateInputs<T>& in;
    const GateRow<T>& row;
    SoftmaxSums<T> sums;

    SEQREC_FN T operator()(std::int64_t e) const {
        if (in.bias == nullptr) {
            return row.logit(e);
        }
        T x = row.finite_logit(e);
        if (in.order == GateOrder::score_then_topk && x == x) {
            x = Score::template apply<M>(x, sums.shift) *
                (Score::kSumsOverExperts ? 1 / sums.total : T(1));
        }
        return x + in.bias[e];
    }
};

// The k first in the order of Placed, one after another.
template <class T, class Keys>
SEQREC_FN void choose(const Keys& keys, std::int64_t experts, std::int64_t k, std::int64_t* ids) {
    Placed<T> last{0, -1};
    for (std::int64_t j = 0; j < k; ++j) {
        Placed<T> best{0, -1};
        for (std::int64_t e = lane_index(); e < experts && (j == 0 || last.place >= 0);
             e += kWarp) {
            const Placed<T> here{keys(e), static_cast<int>(e)};
            if (here.value == here.value && (j == 0 || last.before(here)) && here.before(best)) {
                best = here;
            }
        }
        last = warp_first(best);
        if (lane_index() == 0) {
            ids[j] = last.place;
        }
    }
    __syncwarp();
}

// Other logits may have the same score; of equal scores the smaller id comes first.
template <class T>
SEQREC_FN void order_ties(std::int64_t k, const T* scores, std::int64_t* ids) {
    if (lane_index() == 0) {
        for (std::int64_t j = 1; j < k && ids[j] >= 0; ++j) {
            const std::int64_t id = ids[j];
            std::int64_t to = j;
            for (; to > 0 && scores[to - 1] == scores[j] && ids[to - 1] > id; --to) {
                ids[to] = ids[to - 1];
            }
            ids[to] = id;
        }
    }
    __syncwarp();
}

template <class T>
__global__ void __launch_bounds__(kGateThreads) expert_gate_kernel(ExpertGateArgs<T> args) {
    const GateInputs<T>& in = args.inputs;
    const std::int64_t number = warp_index();
    if (number >= in.rows) {
        return;
    }
    const GateRow<T> row(in, number);
    std::int64_t* const ids = args.ids + number * in.k;
    T* const weights = args.weights + number * in.k;
    with_score(in.score, [&](auto score) {
        using Score = decltype(score);
        const bool by_score = in.bias != nullptr && in.order == GateOrder::score_then_topk;
        SoftmaxSums<T> all;
        if (Score::kSumsOverExperts && (by_score || !shares_of_chosen(in))) {
            all = row.softmax_sums();
        }
        choose<T>(GateKeys<T, Score>{in, row, all}, in.experts, in.k, ids);
        const SoftmaxSums<T> sums = row.template score_chosen<Score>(ids, all, weights);
        __syncwarp();
        if (in.bias == nullptr && in.order == GateOrder::score_then_topk) {
            order_ties(in.k, weights, ids);
        }
        const T factor = row.factor(sums);
        for (std::int64_t j = lane_index(); j < in.k; j += kWarp) {
            weights[j] *= factor;
        }
    });
}

}  // namespace
}  // namespace cuda

template <class T>
void expert_gate_cuda(const ExpertGateArgs<T>& args, cudaStream_t stream) {
    constexpr std::int64_t kRows = cuda::kGateThreads / cuda::kWarp;
    cuda::launch("expert_gate", cuda::expert_gate_kernel<T>,
                 {(args.inputs.rows + kRows - 1) / kRows, cuda::kGateThreads}, stream, args);
}

template void expert_gate_cuda(const ExpertGateArgs<float>&, cudaStream_t);
template void expert_gate_cuda(const ExpertGateArgs<double>&, cudaStream_t);

}  // namespace seqrec_fast
