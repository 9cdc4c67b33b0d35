// The plan of a dispatch on a GPU: a stable partition by counting.
//
// The choices of a sequence are cut into tiles, a tile to a warp. Tiles are counted by expert, the
// counts summed over the tiles of a subsequence, and those over all subsequences; then each choice
// finds its row from the sums and its rank among the lanes before it. Nothing is added in an order
// that matters, so a plan has the same bits in every run.
//
// Bound by latency for usual batches: the ids are read twice, 16 bytes are written per row.
#include <algorithm>

#include "cuda/dispatch_kernels.h"
#include "cuda/launch.h"
#include "cuda/scan.h"
#include "cuda/warp_match.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr std::int64_t kWarps = kThreads / kWarp;
constexpr int kRounds = 8;
constexpr std::int64_t kTile = std::int64_t{kRounds} * kWarp;
constexpr std::int64_t kPartsPerThread = 4, kParts = kPartsPerThread * kThreads;
// Counters of more experts stay in `workspace`, which is slower.
constexpr std::int64_t kMostShared = (std::int64_t{48} << 10) / (kWarps * 4);

struct PlanArgs {
    DispatchPlanArgs in;
    std::int64_t events;
    std::int64_t tiles, blocks;
    // (blocks): rows of the subsequences that a block sums
    std::int64_t* block_sums;
    // (tiles, experts): choices of a tile; later the rank of the first of them in its subsequence,
    // negative for those without room
    std::int32_t* counts;

    // Where sequence b begins, whatever the array holds.
    SEQREC_FN std::int64_t begin(std::int64_t b) const {
        const std::int64_t n = in.offsets[b];
        return (n < 0 ? 0 : n > events ? events : n) * in.k;
    }
    // Its first tile. That leaves tiles unused, but needs no sum over the sequences.
    SEQREC_FN std::int64_t first_tile(std::int64_t b) const { return begin(b) / kTile + b; }
};

PlanArgs plan_args(const DispatchPlanCall& call) {
    PlanArgs args{};
    args.in = call.args;
    args.events = call.events;
    args.tiles = call.args.batch == 0 ? 0 : call.events * call.args.k / kTile + call.args.batch;
    args.blocks = (call.args.experts * call.args.batch + kParts - 1) / kParts;
    args.block_sums = reinterpret_cast<std::int64_t*>(call.workspace);
    args.counts = reinterpret_cast<std::int32_t*>(args.block_sums + args.blocks);
    return args;
}

// The choices that a warp has.
class Tile {
  public:
    SEQREC_FN Tile(const PlanArgs& args, std::int64_t number) : args_(args) {
        sequence = warp_count_up_to(args.in.batch, number,
                                    [&](std::int64_t b) { return args.first_tile(b); }) -
                   1;
        sequence = sequence < 0 ? 0 : sequence;
        first_ = args.begin(sequence) + (number - args.first_tile(sequence)) * kTile;
        const std::int64_t end = args.begin(sequence + 1);
        last_ = first_ + kTile < end ? first_ + kTile : end;
    }

    // visit(slot, expert, rank): rank counts the expert's choices before this one, from what
    // `counters` hold on. Expert -1 for none; what is no expert calls wrong() and is none.
    template <class Wrong, class Visit>
    SEQREC_FN void for_choices(std::int32_t* counters, const Wrong& wrong,
                               const Visit& visit) const {
        std::int64_t ids[kRounds];  // all at once, so that they are waited for once
        for (int round = 0; round < kRounds; ++round) {
            const std::int64_t slot = first_ + round * kWarp + lane_index();
            ids[round] = slot < last_ ? args_.in.expert_ids[slot] : -1;
        }
        for (int round = 0; round < kRounds; ++round) {
            const std::int64_t slot = first_ + round * kWarp + lane_index();
            if (first_ + round * kWarp >= last_) {
                return;
            }
            if (ids[round] < -1 || ids[round] >= args_.in.experts) {
                wrong();
                ids[round] = -1;
            }
            const int expert = static_cast<int>(ids[round]);
            const unsigned same = warp_match(expert);
            const int before = __popc(lanes_before(same));
            std::int32_t counted = 0;
            if (expert >= 0) {
                counted = counters[expert];
            }
            __syncwarp();
            if (expert >= 0 && before == 0) {
                counters[expert] = counted + __popc(same);
            }
            __syncwarp();
            if (slot < last_) {
                visit(slot, expert, counted + before);
            }
        }
    }

    std::int64_t sequence;

  private:
    const PlanArgs& args_;
    std::int64_t first_, last_;
};

// Where the warp counts, and its row in `counts`.
struct Counters {
    std::int32_t* used;
    std::int32_t* kept;

    SEQREC_FN Counters(const PlanArgs& args, std::int64_t tile, std::int32_t* shared)
        : used(shared + threadIdx.x / kWarp * args.in.experts),
          kept(args.counts + tile * args.in.experts) {
        used = args.in.experts <= kMostShared ? used : kept;
    }
};

SEQREC_FN void check_offsets(const PlanArgs& args, std::int64_t* status) {
    const std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * kThreads + threadIdx.x;
    const std::int64_t* const offsets = args.in.offsets;
    if ((b < args.in.batch && offsets[b] > offsets[b + 1]) ||
        (b == 0 && (offsets[0] != 0 || offsets[args.in.batch] != args.events))) {
        status[1] = 1;
    }
}

__global__ void __launch_bounds__(kThreads) count_kernel(PlanArgs args, std::int64_t* status) {
    SEQREC_DYNAMIC_SHARED(std::int32_t, shared);
    check_offsets(args, status);
    const std::int64_t number = warp_index();
    if (number >= args.tiles) {
        return;
    }
    const Counters counters(args, number, shared);
    for (std::int64_t e = lane_index(); e < args.in.experts; e += kWarp) {
        counters.used[e] = 0;
    }
    __syncwarp();
    const auto wrong = [&] { status[1] = 1; };
    const auto k = static_cast<unsigned>(args.in.k);
    Tile(args, number).for_choices(counters.used, wrong, [&](std::int64_t slot, int expert, int) {
        const std::int64_t first = slot - static_cast<unsigned>(slot) % k;
        for (std::int64_t other = first; other < slot && expert >= 0; ++other) {
            if (args.in.expert_ids[other] == expert) {
                wrong();
            }
        }
    });
    __syncwarp();
    for (std::int64_t e = lane_index(); e < args.in.experts && counters.used != counters.kept;
         e += kWarp) {
        counters.kept[e] = counters.used[e];
    }
}

// A thread has some subsequences: sums over their tiles, and how many rows they keep.
__global__ void __launch_bounds__(kThreads) parts_kernel(PlanArgs args, std::int64_t* offsets) {
    const std::int64_t batch = args.in.batch, experts = args.in.experts;
    std::int64_t rows = 0;
    for (std::int64_t i = 0; i < kPartsPerThread; ++i) {
        const std::int64_t part = blockIdx.x * kParts + i * kThreads + threadIdx.x;
        if (part < experts * batch) {
            const std::int64_t expert = part / batch, b = part - expert * batch;
            const std::int64_t choices = args.begin(b + 1) - args.begin(b);
            const std::int64_t tiles = (choices + kTile - 1) / kTile;
            std::int32_t* const first = args.counts + args.first_tile(b) * experts + expert;
            std::int32_t count = 0;
            for (std::int64_t t = 0; t < tiles; ++t) {
                const std::int32_t before = count;
                count += first[t * experts];
                first[t * experts] = before;
            }
            const bool fits = args.in.capacity < 0 || count <= args.in.capacity;
            const std::int64_t kept = fits ? count : args.in.capacity;
            for (std::int64_t t = 0; t < tiles && !fits; ++t) {
                first[t * experts] -= count - static_cast<std::int32_t>(kept);
            }
            offsets[part + 1] = kept;
            rows += kept;
        }
    }
    const BlockSum sum = block_sum<kThreads>(rows);
    if (threadIdx.x == 0) {
        args.block_sums[blockIdx.x] = sum.total;
    }
}

// Rows of subsequences to where they begin. A block sums the sums of the blocks before it.
__global__ void __launch_bounds__(kThreads)
    offsets_kernel(PlanArgs args, std::int64_t* offsets, std::int64_t* status) {
    std::int64_t mine = 0;
    for (std::int64_t i = threadIdx.x; i < blockIdx.x; i += kThreads) {
        mine += args.block_sums[i];
    }
    std::int64_t begin = block_sum<kThreads>(mine).total;
    const std::int64_t parts = args.in.experts * args.in.batch;
    for (std::int64_t i = 0; i < kPartsPerThread; ++i) {
        const std::int64_t part = blockIdx.x * kParts + i * kThreads + threadIdx.x;
        const std::int64_t rows = part < parts ? offsets[part + 1] : 0;
        const BlockSum sum = block_sum<kThreads>(rows);
        if (part < parts) {
            offsets[part + 1] = begin + sum.before + rows;
        }
        begin += sum.total;
    }
    if (threadIdx.x == 0 && blockIdx.x == 0) {
        offsets[0] = 0;
    }
    if (threadIdx.x == 0 && blockIdx.x + 1 == gridDim.x) {
        status[0] = begin;
    }
}

__global__ void __launch_bounds__(kThreads) place_kernel(PlanArgs args, DispatchPlan plan) {
    SEQREC_DYNAMIC_SHARED(std::int32_t, shared);
    const std::int64_t number = warp_index();
    if (number >= args.tiles) {
        return;
    }
    const Counters counters(args, number, shared);
    for (std::int64_t e = lane_index(); e < args.in.experts && counters.used != counters.kept;
         e += kWarp) {
        counters.used[e] = counters.kept[e];
    }
    __syncwarp();
    const Tile tile(args, number);
    const auto k = static_cast<unsigned>(args.in.k);
    tile.for_choices(
        counters.used, [] {},
        [&](std::int64_t slot, int expert, int rank) {
            std::int64_t row = -1;
            if (expert >= 0 && rank >= 0) {
                row = plan.offsets[expert * args.in.batch + tile.sequence] + rank;
                plan.index[row] = static_cast<unsigned>(slot) / k;
                plan.slot[row] = slot;
            }
            plan.position[slot] = row;
        });
}

LaunchShape tiles_shape(const PlanArgs& args) {
    const std::int64_t counters = args.in.experts <= kMostShared ? kWarps * args.in.experts : 0;
    return {(args.tiles + kWarps - 1) / kWarps, kThreads, static_cast<std::size_t>(counters) * 4};
}

}  // namespace
}  // namespace cuda

std::int64_t dispatch_workspace_bytes(const DispatchPlanArgs& args, std::int64_t events) {
    const cuda::PlanArgs plan = cuda::plan_args({args, events, nullptr});
    return plan.blocks * 8 + plan.tiles * args.experts * 4;
}

void dispatch_offsets_cuda(const DispatchPlanCall& call, std::int64_t* offsets,
                           std::int64_t* status, cudaStream_t stream) {
    constexpr const char* kName = "dispatch_by_expert";
    const cuda::PlanArgs args = cuda::plan_args(call);
    cuda::launch(kName, cuda::count_kernel, cuda::tiles_shape(args), stream, args, status);
    cuda::launch(kName, cuda::parts_kernel, {args.blocks, cuda::kThreads}, stream, args, offsets);
    cuda::launch(kName, cuda::offsets_kernel,
                 {std::max<std::int64_t>(1, args.blocks), cuda::kThreads}, stream, args, offsets,
                 status);
}

void dispatch_plan_cuda(const DispatchPlanCall& call, const DispatchPlan& plan,
                        cudaStream_t stream) {
    const cuda::PlanArgs args = cuda::plan_args(call);
    cuda::launch("dispatch_by_expert", cuda::place_kernel, cuda::tiles_shape(args), stream, args,
                 plan);
}

}  // namespace seqrec_fast
