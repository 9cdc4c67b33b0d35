// How the time loops start: which product they take, and in which shape.
#pragma once

#include <cstdint>

#include "base/check.h"
#include "cuda/device_limits.h"
#include "cuda/launch.h"
#include "cuda/rnn_product.h"
#include "cuda/rnn_tensor_product.h"

namespace seqrec_fast {
namespace cuda {

template <class Product>
struct ProductTag {
    using Type = Product;
};

// Calls start(tag of a product, blocks of a cluster, bytes of dynamic shared memory): few rows to a
// block where there are not enough sessions for all multiprocessors; weights in the shared memory
// of a block where they fit there, else in that of the smallest cluster that has room for them.
// `bytes(tag, blocks)` is what a product needs with the states of a loop.
template <class T, class Bytes, class Start>
void with_product(const char* function, std::int64_t batch, bool tensor_cores, const Bytes& bytes,
                  const Start& start) {
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
            if (bytes(cluster, blocks) <= room) {
                return go(cluster, blocks);
            }
        }
        go(stream, 1);
    };
    constexpr WeightPlace kStream = WeightPlace::stream;
    constexpr int kMany = sizeof(T) == 4 ? 8 : 4;
    constexpr ProductTag<FmaProduct<T, kMany, kStream>> many{};
    constexpr ProductTag<FmaProduct<T, 2, kStream>> few{};
    const bool is_many = batch > 2 * multiprocessors() && bytes(many, 1) <= room;
    if constexpr (sizeof(T) == 4) {
        constexpr WeightPlace kBlock = WeightPlace::block, kCluster = WeightPlace::cluster;
        if (tensor_cores) {
            choose(ProductTag<TensorProduct<kBlock>>(), ProductTag<TensorProduct<kCluster>>(),
                   ProductTag<TensorProduct<kStream>>());
        } else if (is_many) {
            choose(ProductTag<FmaProduct<T, kMany, kBlock>>(),
                   ProductTag<FmaProduct<T, kMany, kCluster>>(), many);
        } else {
            choose(ProductTag<FmaProduct<T, 2, kBlock>>(), ProductTag<FmaProduct<T, 2, kCluster>>(),
                   few);
        }
    } else if (is_many) {
        go(many, 1);
    } else {
        go(few, 1);
    }
}

template <class Loop, class Args>
__global__ void __launch_bounds__(kRnnThreads) rnn_loop_kernel(Args args) {
    SEQREC_DYNAMIC_SHARED(unsigned char, shared);
    Loop(args, SharedMemory(shared)).run();
}

// Starts the loop over the steps of all sessions.
template <template <class, class> class Loop, class Cell, class T, class Args>
void run_loop(const char* function, const Args& args, cudaStream_t stream) {
    with_product<T>(
        function, args.layout.batch, args.weights.packed != nullptr,
        [&](auto tag, std::int64_t blocks) {
            return Loop<Cell, typename decltype(tag)::Type>::shared_bytes(args.hidden, blocks);
        },
        [&](auto tag, std::int64_t blocks, std::size_t bytes) {
            using Product = typename decltype(tag)::Type;
            const std::int64_t experts = args.layout.experts;
            const std::int64_t of_expert = args.layout.batch / experts;
            const std::int64_t tiles =
                experts * ((of_expert + Product::kRows - 1) / Product::kRows);
            launch(function, rnn_loop_kernel<Loop<Cell, Product>, Args>,
                   {tiles * blocks, Product::threads(args.hidden, blocks), bytes,
                    static_cast<unsigned>(blocks)},
                   stream, args);
        });
}

}  // namespace cuda
}  // namespace seqrec_fast
