// Which product the time loops take, and in which shape.
#pragma once

#include <cstdint>

#include "base/check.h"
#include "cuda/device_limits.h"
#include "cuda/rnn_product.h"
#include "cuda/rnn_tensor_product.h"

namespace seqrec_fast {
namespace cuda {

template <class Product>
struct ProductTag {
    using Type = Product;
};

// Calls start(tag of a product, bytes of dynamic shared memory): few rows to a block where there
// are not enough sessions for all multiprocessors, weights in shared memory where they fit there.
// `bytes(tag)` is what a product needs with the states of a loop.
template <class T, class Bytes, class Start>
void with_product(const char* function, std::int64_t batch, bool tensor_cores, const Bytes& bytes,
                  const Start& start) {
    constexpr std::size_t kTables = std::size_t{4} << 10;
    const std::size_t room = most_shared_bytes() - kTables;
    const auto fits = [&](auto tag) { return bytes(tag) <= room; };
    const auto go = [&](auto tag) {
        SEQREC_CHECK(fits(tag), function, ": the states of ", decltype(tag)::Type::kRows,
                     " sessions take ", bytes(tag), " bytes; expected up to ", room,
                     ", the shared memory of this GPU");
        start(tag, bytes(tag));
    };
    const auto choose = [&](auto stationary, auto streamed) {
        return fits(stationary) ? go(stationary) : go(streamed);
    };
    if constexpr (sizeof(T) == 4) {
        constexpr ProductTag<FmaProduct<T, 8, false>> many{};
        if (tensor_cores) {
            choose(ProductTag<TensorProduct<true>>(), ProductTag<TensorProduct<false>>());
        } else if (batch > 2 * multiprocessors() && fits(many)) {
            choose(ProductTag<FmaProduct<T, 8, true>>(), many);
        } else {
            choose(ProductTag<FmaProduct<T, 2, true>>(), ProductTag<FmaProduct<T, 2, false>>());
        }
    } else {
        constexpr ProductTag<FmaProduct<T, 4, false>> many{};
        if (batch > 2 * multiprocessors() && fits(many)) {
            go(many);
        } else {
            go(ProductTag<FmaProduct<T, 2, false>>());
        }
    }
}

}  // namespace cuda
}  // namespace seqrec_fast
