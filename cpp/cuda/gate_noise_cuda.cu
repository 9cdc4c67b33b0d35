// Noise of gates on a GPU: bits are those of the CPU, the functions of them round on their own. A
// thread has a counter, and so four numbers of a block of 64, 16 columns apart. Bound by
// arithmetic.
#include "cells/gate_noise_cell-inl.h"
#include "cuda/device_math.h"
#include "cuda/gate_kernels.h"
#include "cuda/launch.h"
#include "cuda/philox.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr std::int64_t kCounters = 16, kBlock = 4 * kCounters;

__global__ void __launch_bounds__(kThreads)
    gate_noise_kernel(GateNoiseArgs args, std::int64_t counters) {
    using M = DeviceMath<float>;
    const std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (index >= args.rows * counters) {
        return;
    }
    const std::int64_t row = index / counters, counter = index - row * counters;
    const PhiloxWords bits = philox_words(args.seed, static_cast<std::uint32_t>(counter),
                                          static_cast<std::uint32_t>(row), args.step, 0);
    float numbers[4];
    for (int j = 0; j < 4; ++j) {
        const auto upper = static_cast<float>(bits.words[j] >> 9);
        numbers[j] = GateNoiseCell::uniform<M>(upper);
    }
    if (args.noise == GateNoise::gumbel) {
        for (float& number : numbers) {
            number = GateNoiseCell::gumbel<M>(number);
        }
    } else {
        GateNoiseCell::normal<M>(numbers[0], numbers[2], numbers[0], numbers[2]);
        GateNoiseCell::normal<M>(numbers[1], numbers[3], numbers[1], numbers[3]);
    }
    const std::int64_t first = counter / kCounters * kBlock + counter % kCounters;
    for (int j = 0; j < 4; ++j) {
        const std::int64_t e = first + j * kCounters;
        if (e < args.experts) {
            args.values[row * args.experts + e] = numbers[j];
        }
    }
}

}  // namespace
}  // namespace cuda

void gate_noise_cuda(const GateNoiseArgs& args, cudaStream_t stream) {
    const std::int64_t rest = args.experts % cuda::kBlock;
    const std::int64_t counters = args.experts / cuda::kBlock * cuda::kCounters +
                                  (rest < cuda::kCounters ? rest : cuda::kCounters);
    const std::int64_t threads = args.rows * counters;
    cuda::launch("gate_noise", cuda::gate_noise_kernel,
                 {(threads + cuda::kThreads - 1) / cuda::kThreads, cuda::kThreads}, stream, args,
                 counters);
}

}  // namespace seqrec_fast
