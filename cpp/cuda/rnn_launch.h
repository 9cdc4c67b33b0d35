// How the time loops start: which product they take, and in which shape.
#pragma once

#include <cstdint>

#include "base/check.h"
#include "cuda/cluster_launch.h"
#include "cuda/rnn_outside_product.h"
#include "cuda/rnn_product.h"
#include "cuda/rnn_register_product.h"
#include "cuda/rnn_tensor_product.h"

namespace seqrec_fast {
namespace cuda {

template <class Product>
struct ProductTag {
    using Type = Product;
};

// Calls start(tag of a product, blocks of a cluster, bytes of dynamic shared memory): few rows to a
// block where there are not enough sessions for all multiprocessors; weights in registers where
// tensor cores multiply and the warps of a block can hold them, else in the shared memory of a
// block where they fit there, else in that of the smallest cluster that has room for them and that
// the GPU hosts. `bytes(tag, blocks)` is what a product needs with the states of a loop.
template <class S, int kGates, class Bytes, class Hosts, class Start>
void with_product(const char* function, std::int64_t batch, std::int64_t hidden, bool tensor_cores,
                  const Bytes& bytes, const Hosts& hosts, const Start& start) {
    using T = typename LoopTypes<S>::Sum;
    using Packed = typename LoopTypes<S>::Packed;
    constexpr WeightPlace kBlock = WeightPlace::block, kCluster = WeightPlace::cluster;
    constexpr WeightPlace kStream = WeightPlace::stream;
    const std::size_t room = most_shared_bytes();
    const auto go = [&](auto tag, std::int64_t blocks) {
        SEQREC_CHECK(bytes(tag, blocks) <= room, function, ": the states of ",
                     decltype(tag)::Type::kRows, " sessions take ", bytes(tag, blocks),
                     " bytes; expected up to ", room, ", the shared memory of this GPU");
        start(tag, blocks, bytes(tag, blocks));
    };
    const auto choose = [&](auto block, auto cluster, auto stream) {
        if (bytes(block, 1) <= room) {
            return go(block, 1);
        }
        for (std::int64_t blocks = 2; blocks <= most_cluster_blocks(); blocks *= 2) {
            if (bytes(cluster, blocks) <= room && hosts(cluster, blocks)) {
                return go(cluster, blocks);
            }
        }
        go(stream, 1);
    };
    if constexpr (sizeof(S) < 8) {
        constexpr ProductTag<RegisterProduct<Packed, kGates>> registers{};
        if ((kIsHalf<S> || tensor_cores) && decltype(registers)::Type::holds(hidden)) {
            return go(registers, 1);
        }
        if (kIsHalf<S> || tensor_cores) {
            return choose(ProductTag<TensorProduct<Packed, kBlock>>(),
                          ProductTag<TensorProduct<Packed, kCluster>>(),
                          ProductTag<TensorProduct<Packed, kStream>>());
        }
    }
    if constexpr (!kIsHalf<S>) {
        constexpr int kMany = sizeof(T) == 4 ? 8 : 4;
        constexpr ProductTag<FmaProduct<T, kMany, kStream>> many{};
        constexpr ProductTag<FmaProduct<T, 2, kStream>> few{};
        const bool is_many = batch > 2 * multiprocessors() && bytes(many, 1) <= room;
        if constexpr (sizeof(T) == 8) {
            is_many ? go(many, 1) : go(few, 1);
        } else if (is_many) {
            choose(ProductTag<FmaProduct<T, kMany, kBlock>>(),
                   ProductTag<FmaProduct<T, kMany, kCluster>>(), many);
        } else {
            choose(ProductTag<FmaProduct<T, 2, kBlock>>(), ProductTag<FmaProduct<T, 2, kCluster>>(),
                   few);
        }
    }
}

template <class Loop, class Args>
__global__ void __launch_bounds__(Loop::kMostThreads) rnn_loop_kernel(Args args) {
    SEQREC_DYNAMIC_SHARED(unsigned char, shared);
    Loop loop(args, SharedMemory(shared));
    if constexpr (Loop::kParts) {
        loop.run_part();
    } else {
        loop.run();
    }
}

// Starts a part of one step of all sessions, see OneStep.
template <template <class, class, class> class Loop, class Cell, class S, class Args>
void run_part(const char* function, const Args& args, cudaStream_t stream) {
    const auto start = [&](auto tag) {
        using Product = typename decltype(tag)::Type;
        using StepLoop = Loop<Cell, Product, S>;
        const LaunchShape shape{args.layout.experts * args.step.rows,
                                Product::threads(args.hidden, 1),
                                StepLoop::shared_bytes(args.hidden, 1)};
        launch(function, rnn_loop_kernel<StepLoop, Args>, shape, stream, args);
    };
    if constexpr (!kIsHalf<S>) {
        if (args.step.left != nullptr) {
            return start(ProductTag<OutsideProduct<S, S>>());
        }
    }
    if constexpr (sizeof(S) < 8) {
        start(ProductTag<OutsideProduct<S, typename LoopTypes<S>::Packed>>());
    }
}

// Starts the loop over the steps of all sessions, or a part of a step.
template <template <class, class, class> class Loop, class Cell, class S, class Args>
void run_loop(const char* function, const Args& args, cudaStream_t stream) {
    if (args.step.present()) {
        return run_part<Loop, Cell, S>(function, args, stream);
    }
    const auto shape = [&](auto tag, std::int64_t blocks, std::size_t bytes) {
        using Product = typename decltype(tag)::Type;
        const std::int64_t of_expert = args.layout.batch / args.layout.experts;
        const std::int64_t tiles =
            args.layout.experts * ((of_expert + Product::kRows - 1) / Product::kRows);
        return LaunchShape{tiles * blocks, Product::threads(args.hidden, blocks), bytes,
                           static_cast<unsigned>(blocks)};
    };
    const auto bytes = [&](auto tag, std::int64_t blocks) {
        return Loop<Cell, typename decltype(tag)::Type, S>::shared_bytes(args.hidden, blocks);
    };
    const auto kernel = [](auto tag) {
        return rnn_loop_kernel<Loop<Cell, typename decltype(tag)::Type, S>, Args>;
    };
    with_product<S, static_cast<int>(gate_count(Cell::kKind))>(
        function, args.layout.batch, args.hidden, args.weights.packed != nullptr, bytes,
        [&](auto tag, std::int64_t blocks) {
            return hosts_cluster(kernel(tag), shape(tag, blocks, bytes(tag, blocks)));
        },
        [&](auto tag, std::int64_t blocks, std::size_t shared) {
            launch(function, kernel(tag), shape(tag, blocks, shared), stream, args);
        });
}

}  // namespace cuda
}  // namespace seqrec_fast
