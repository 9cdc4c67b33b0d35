// Vanilla RNN backward on the CPU, for every target.
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/rnn_backward_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include "base/dispatch-inl.h"
#include "cells/rnn_cell-inl.h"
#include "cpu/rnn_backward-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

template <class View, class Activation>
struct RnnGradOp {
    using T = typename View::T;
    using D = Lanes<T>;

    HWY_INLINE void apply(std::int64_t row, std::int64_t unit) const {
        T* dh = view.dh + row * view.stride + unit;
        const hn::Vec<D> h = view.h_after(row, unit);
        const hn::Vec<D> dsum = Activation::template grad<SimdMath<D>>(h, hn::LoadU(D(), dh));
        view.store_gate(dsum, row, 0, unit);
        hn::StoreU(hn::Zero(D()), D(), dh);
    }

    const View& view;
};

template <class Activation>
struct RnnGradCell {
    static constexpr CellKind kKind = CellKind::rnn_tanh;  // rnn_relu has the same counts

    template <class View>
    static void step_grad(const View& view) {
        using T = typename View::T;
        for_each_unit(view, RnnGradOp<View, Activation>{view});
        multiply_plain(AccumulateOp<T>{view.dh, view.stride}, view.dgates_rows, view.rows,
                       view.weights->recurrent);
    }
};

template <class T>
void rnn_backward(const RnnBackwardArgs<T>& args) {
    if (args.weights->kind == CellKind::rnn_relu) {
        run_backward<RnnGradCell<ReluActivation>>(args);
    } else {
        run_backward<RnnGradCell<TanhActivation>>(args);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(rnn_backward_cpu, rnn_backward, RnnBackwardArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
