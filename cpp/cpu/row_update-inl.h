// What optimisers do to one row of a table.

// Per-target include guard
#if defined(SEQREC_CPU_ROW_UPDATE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_ROW_UPDATE_INL_H_
#undef SEQREC_CPU_ROW_UPDATE_INL_H_
#else
#define SEQREC_CPU_ROW_UPDATE_INL_H_
#endif

#include <algorithm>

#include "cpu/loss_kernels.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// `row` of `table` after a step against `gradient` (dim):
//     sgd      step = -lr g
//     adagrad  square += g^2;  step = -lr g / sqrt(square + eps)
//     adam     Kingma & Ba, 2015 (arXiv:1412.6980), with the bias corrections of the whole table
// With momentum the steps of sgd and adagrad are mean = momentum * mean + step.
template <class T>
void update_row(const RowUpdate<T>& update, T* table, std::int64_t row, std::int64_t dim,
                const T* gradient) {
    using D = Lanes<T>;
    using V = hn::Vec<D>;
    const D d;
    const V minus_lr = hn::Set(d, static_cast<T>(-update.lr));
    const V eps = hn::Set(d, static_cast<T>(update.eps));
    const V kept = hn::Set(d, static_cast<T>(1 - update.lr * update.weight_decay));
    const std::int64_t at = row * dim;
    for (std::int64_t k = 0; k < dim; k += lane_count<T>()) {
        const std::int64_t n = dim - k;
        const V g = load_part(d, gradient + k, n);
        V step = hn::Mul(minus_lr, g);
        if (update.rule == UpdateRule::adam) {
            const auto moved = [&](T* state, V value, double beta) {
                const V before = load_part(d, state + at + k, n);
                const V share = hn::Set(d, static_cast<T>(1 - beta));
                const V after = hn::MulAdd(share, hn::Sub(value, before), before);
                store_part(after, d, state + at + k, n);
                return after;
            };
            const V mean = moved(update.mean, g, update.beta_1);
            const V square = moved(update.square, hn::Mul(g, g), update.beta_2);
            const V root =
                hn::Sqrt(hn::Mul(square, hn::Set(d, static_cast<T>(1 / update.correction_2))));
            const V rate = hn::Mul(minus_lr, hn::Set(d, static_cast<T>(1 / update.correction_1)));
            step = hn::Div(hn::Mul(rate, mean), hn::Add(root, eps));
        } else {
            if (update.rule == UpdateRule::adagrad) {
                const V total = hn::MulAdd(g, g, load_part(d, update.square + at + k, n));
                store_part(total, d, update.square + at + k, n);
                step = hn::Div(step, hn::Sqrt(hn::Add(total, eps)));
            }
            if (update.momentum != 0) {
                const V before = load_part(d, update.mean + at + k, n);
                step = hn::MulAdd(hn::Set(d, static_cast<T>(update.momentum)), before, step);
                store_part(step, d, update.mean + at + k, n);
            }
        }
        const V value = load_part(d, table + at + k, n);
        store_part(hn::MulAdd(value, kept, step), d, table + at + k, n);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
