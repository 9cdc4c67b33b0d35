// Bits of recurrent dropout and zoneout on a GPU, before the loops that use them: there they would
// be arithmetic of every step. A block has a session, a thread a counter, and so four units of a
// block of 64, 16 apart. Bound by arithmetic.
#include "cuda/launch.h"
#include "cuda/philox.h"
#include "cuda/rnn_kernels.h"
#include "cuda/rnn_tile.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kNoiseThreads = 256;
constexpr std::int64_t kCounters = 16, kBlock = 4 * kCounters;

SEQREC_FN std::uint32_t threshold(double probability) {
    const double most = 0x1p32 - 1, at = probability * 0x1p32;
    return static_cast<std::uint32_t>(at < most ? at : most);
}

// Adds `bit` to the units that a kind of noise hits.
SEQREC_FN void draw(const RnnNoiseArgs& args, std::uint32_t counter, std::uint32_t step,
                    std::uint32_t session, std::uint32_t kind, double probability, unsigned bit,
                    unsigned (&bits)[4]) {
    const PhiloxWords words = philox_words(static_cast<std::uint64_t>(*args.seed), counter, step,
                                           session, args.stream * 4 + kind);
    for (int j = 0; j < 4; ++j) {
        bits[j] |= words.words[j] < threshold(probability) ? bit : 0U;
    }
}

__global__ void __launch_bounds__(kNoiseThreads)
    rnn_noise_kernel(RnnNoiseArgs args, std::int64_t counters) {
    SEQREC_SHARED TileRows<1> tile;
    tile.load(args.layout, blockIdx.x);
    __syncthreads();
    const std::int64_t place = tile.session[0];
    const auto session =
        static_cast<std::uint32_t>(args.sessions == nullptr ? place : args.sessions[place]);
    const std::int64_t all = tile.length[0] * counters;
    for (std::int64_t i = threadIdx.x; i < all; i += kNoiseThreads) {
        const std::int64_t t = i / counters;
        const auto counter = static_cast<std::uint32_t>(i - t * counters);
        const auto step = static_cast<std::uint32_t>(t);
        unsigned bits[4] = {};
        if (args.recurrent_dropout > 0) {
            draw(args, counter, step, session, 0, args.recurrent_dropout, kDropped, bits);
        }
        if (args.zoneout > 0) {
            draw(args, counter, step, session, 1, args.zoneout, kKeepsH, bits);
            draw(args, counter, step, session, 2, args.zoneout, kKeepsC, bits);
        }
        std::uint8_t* const row = args.bits + tile.event(args.layout, 0, t, false) * args.hidden;
        const std::int64_t first = counter / kCounters * kBlock + counter % kCounters;
        for (int j = 0; j < 4; ++j) {
            if (first + j * kCounters < args.hidden) {
                row[first + j * kCounters] = static_cast<std::uint8_t>(bits[j]);
            }
        }
    }
}

}  // namespace
}  // namespace cuda

void rnn_noise_cuda(const RnnNoiseArgs& args, cudaStream_t stream) {
    const std::int64_t rest = args.hidden % cuda::kBlock;
    const std::int64_t counters = args.hidden / cuda::kBlock * cuda::kCounters +
                                  (rest < cuda::kCounters ? rest : cuda::kCounters);
    cuda::launch("rnn_noise", cuda::rnn_noise_kernel, {args.layout.batch, cuda::kNoiseThreads},
                 stream, args, counters);
}

}  // namespace seqrec_fast
