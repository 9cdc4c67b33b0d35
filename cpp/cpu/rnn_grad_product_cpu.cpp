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

// Adds to rows of `out`, or writes those of events. One op for both: tiles take long to compile.
template <class T>
struct GradProductOp : SumsFromZero<T> {
    T* out;
    std::int64_t stride;
    const std::int64_t* events;
    std::int64_t column;

    HWY_INLINE GradProductOp part(std::int64_t block) const {
        return {{}, out, stride, events, block * kPackedLanes<T>};
    }
    template <int kVectors>
    HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                           const hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        const Lanes<T> d;
        const std::int64_t first = column + lane;
        if (events == nullptr) {
            T* to = out + row * stride + first;
            for (int v = 0; v < kVectors; ++v, to += kPackedLanes<T>) {
                hn::StoreU(hn::Add(hn::LoadU(d, to), acc[v]), d, to);
            }
            return;
        }
        T* to = out + events[row] * stride + first;
        for (int v = 0; v < kVectors; ++v) {
            const std::int64_t shift = v * kPackedLanes<T>;
            store_part(acc[v], d, to + shift, stride - first - shift);
        }
    }
};

template <class T>
void grad_product(const RnnGradProductArgs<T>& args) {
    multiply_plain(GradProductOp<T>{{}, args.out, args.stride, args.events, 0}, args.rows,
                   args.n_rows, args.depth, *args.matrix, RowRange::dynamic);
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(rnn_grad_product_cpu, grad_product, RnnGradProductArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
