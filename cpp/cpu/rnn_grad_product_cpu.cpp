// Products of gates' gradients with weights on the CPU, for every target. Apart from the backward
// passes of the cells, since this is most of their code and the same for all.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rnn_grad_product_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cpu/dot_product-inl.h"
#include "cpu/rnn_kernels.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// out += product, in place.
template <class T>
struct AccumulateOp {
    T* out;
    std::int64_t stride;

    HWY_INLINE AccumulateOp part(std::int64_t block) const {
        return {out + block * kPackedLanes<T>, stride};
    }
    template <int kVectors>
    HWY_INLINE void init(std::int64_t row, std::int64_t lane,
                         hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        for (int v = 0; v < kVectors; ++v) {
            acc[v] = hn::LoadU(Lanes<T>(), out + row * stride + v * kPackedLanes<T> + lane);
        }
    }
    template <int kVectors>
    HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                           const hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        for (int v = 0; v < kVectors; ++v) {
            hn::StoreU(acc[v], Lanes<T>(), out + row * stride + v * kPackedLanes<T> + lane);
        }
    }
};

// Rows of `out` at their events.
template <class T>
struct ScatterOp : SumsFromZero<T> {
    T* out;
    std::int64_t width;
    const std::int64_t* events;
    std::int64_t column;

    HWY_INLINE ScatterOp part(std::int64_t block) const {
        return {{}, out, width, events, block * kPackedLanes<T>};
    }
    template <int kVectors>
    HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                           const hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        for (int v = 0; v < kVectors; ++v) {
            const std::int64_t first = column + v * kPackedLanes<T> + lane;
            store_part(acc[v], Lanes<T>(), out + events[row] * width + first, width - first);
        }
    }
};

template <class T>
void grad_product(const RnnGradProductArgs<T>& args) {
    const auto multiply = [&](const auto& op) {
        multiply_plain(op, args.rows, args.n_rows, args.depth, *args.matrix, RowRange::dynamic);
    };
    if (args.events == nullptr) {
        multiply(AccumulateOp<T>{args.out, args.stride});
    } else {
        multiply(ScatterOp<T>{{}, args.out, args.stride, args.events, 0});
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(rnn_grad_product_cpu, grad_product, RnnGradProductArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
