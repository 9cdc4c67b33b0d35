// What the passes of the cross-entropy share: their tiles, and logits from sums of products.
#pragma once

#include <type_traits>

#include "cells/soft_cap-inl.h"
#include "cuda/cross_entropy_kernels.h"
#include "cuda/device_math.h"
#include "cuda/row_tiles.h"

namespace seqrec_fast {
namespace cuda {

// A warp has the rows of its threads, so that it can sum over items by itself.
template <class T>
using LossShape = std::conditional_t<std::is_same_v<T, float>, TileShape<float, 8, 4, kWarp>,
                                     TileShape<T, 4, 2, kWarp>>;

template <class T>
struct LossLogits {
    using M = DeviceMath<T>;

    SEQREC_FN explicit LossLogits(const CrossEntropyArgs<T>& args)
        : bias(args.bias), scale(static_cast<T>(args.scale)), cap(static_cast<T>(args.softcap)) {}

    SEQREC_FN T operator()(T product, std::int64_t item) const {
        const T x = uncapped(product, bias == nullptr ? T(0) : bias[item]);
        return cap == 0 ? x : capped(x);
    }
    SEQREC_FN T uncapped(T product, T item_bias) const {
        return std::fma(scale, product, item_bias);
    }
    SEQREC_FN T capped(T x) const { return SoftCap::apply<M>(x, cap); }
    // dlogit/dx of the soft cap.
    SEQREC_FN T cap_gradient(T logit) const {
        return cap == 0 ? T(1) : SoftCap::grad<M>(logit, cap);
    }

    const T* bias;
    T scale, cap;
};

}  // namespace cuda
}  // namespace seqrec_fast
