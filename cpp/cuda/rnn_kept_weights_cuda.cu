// How large the recurrent weights may be that a loop multiplies by itself.
#include "cuda/cluster_launch.h"
#include "cuda/rnn_kernels.h"

namespace seqrec_fast {

std::int64_t rnn_most_kept_bytes() {
    // As many, read from L2 by every block, take a step less time than the launches would.
    constexpr std::int64_t kStreamed = std::int64_t{2} << 20;
    // The rest of the shared memory has the states.
    const std::int64_t kept =
        cuda::most_cluster_blocks() * static_cast<std::int64_t>(cuda::most_shared_bytes()) / 4 * 3;
    return kept > kStreamed ? kept : kStreamed;
}

}  // namespace seqrec_fast
