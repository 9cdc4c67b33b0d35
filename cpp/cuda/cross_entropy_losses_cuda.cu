// Losses of rows from the sums of their ranges of items, on a GPU. A thread has a row, in float64:
// little work beside that of the sums.
#include <cmath>
#include <limits>

#include "cuda/cross_entropy_sums.h"
#include "cuda/launch.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads)
    loss_kernel(CrossEntropyArgs<T> args, std::int64_t ranges, const RowPart<T>* parts) {
    const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (row >= args.rows) {
        return;
    }
    if (args.target[row] < 0) {
        args.loss[row] = args.log_sum[row] = 0;
        return;
    }
    double largest = static_cast<double>(parts[row].largest), sum = 0, logits = 0, target_logit = 0;
    for (std::int64_t i = 1; i < ranges; ++i) {
        const auto other = static_cast<double>(parts[i * args.rows + row].largest);
        largest = other > largest ? other : largest;
    }
    for (std::int64_t i = 0; i < ranges; ++i) {
        const RowPart<T>& part = parts[i * args.rows + row];
        sum +=
            static_cast<double>(part.sum) * std::exp(static_cast<double>(part.largest) - largest);
        logits += static_cast<double>(part.logits);
        target_logit += static_cast<double>(part.target_logit);
    }
    const double log_sum = largest + std::log(sum), smoothing = args.label_smoothing;
    double loss = log_sum - target_logit;
    if (smoothing > 0) {
        loss = (1 - smoothing) * loss +
               smoothing * (log_sum - logits / static_cast<double>(args.items));
    }
    const bool known = args.target[row] < args.items;
    args.loss[row] = known ? static_cast<T>(loss) : std::numeric_limits<T>::quiet_NaN();
    args.log_sum[row] = static_cast<T>(log_sum);
}

}  // namespace

template <class T>
void cross_entropy_losses(const CrossEntropyArgs<T>& args, std::int64_t ranges,
                          const RowPart<T>* parts, cudaStream_t stream) {
    launch("linear_cross_entropy", loss_kernel<T>,
           {(args.rows + kThreads - 1) / kThreads, kThreads}, stream, args, ranges, parts);
}

template void cross_entropy_losses(const CrossEntropyArgs<float>&, std::int64_t,
                                   const RowPart<float>*, cudaStream_t);
template void cross_entropy_losses(const CrossEntropyArgs<double>&, std::int64_t,
                                   const RowPart<double>*, cudaStream_t);

}  // namespace cuda
}  // namespace seqrec_fast
