// A dense mixture with several gates on the CPU, for every target.
//
// A tile of rows at a time: its weights are made once and stay in L1, and the vectors of all
// experts of a row are read once for all gates (forward), those of all gates for all experts
// (backward).
#include "base/highway_targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "cpu/multi_gate_cpu.cpp"
#include "hwy/foreach_target.h"
// After foreach_target.h
#include <algorithm>
#include <limits>

#include "base/dispatch-inl.h"
#include "base/parallel.h"
#include "base/workspace.h"
#include "cpu/multi_gate_kernels.h"
#include "cpu/row_dot-inl.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

constexpr std::int64_t kRowsPerTile = 32;
// Sums that stay in registers beside their operands.
constexpr std::int64_t kSumsAtOnce = 4;

// p (n, experts) = softmax of each row of `logits`.
template <class T>
void softmax_rows(const T* logits, std::int64_t n, std::int64_t experts, T* p) {
    using Math = SimdMath<Lanes<T>>;
    const Lanes<T> d;
    for (std::int64_t r = 0; r < n; ++r) {
        const T* const row = logits + r * experts;
        T most = row[0];
        for (std::int64_t e = 1; e < experts; ++e) {
            most = row[e] > most || most != most ? row[e] : most;
        }
        // So that -inf - most is -inf, and not NaN, where all are.
        most = most == -std::numeric_limits<T>::infinity() ? T(0) : most;
        for (std::int64_t e = 0; e < experts; ++e) {
            p[r * experts + e] = row[e] - most;
        }
    }
    for (std::int64_t i = 0; i < n * experts; i += lane_count<T>()) {
        const std::int64_t left = n * experts - i;
        store_part(Math::exp_of_negative(load_part(d, p + i, left)), d, p + i, left);
    }
    for (std::int64_t r = 0; r < n; ++r) {
        T sum = 0;
        for (std::int64_t e = 0; e < experts; ++e) {
            sum += p[r * experts + e];
        }
        for (std::int64_t e = 0; e < experts; ++e) {
            p[r * experts + e] = sum == T(0) ? T(0) : p[r * experts + e] / sum;
        }
    }
}

// A sum over `terms` of factor(term, s) * from(term), for `kSums` sums, each to its own row. With
// kSkips a term of factor 0 is left out, so that it may be anything.
template <int kSums, bool kSkips, class T, class Factor, class From, class To>
HWY_INLINE void weighted_sums(std::int64_t terms, std::int64_t dim, const Factor& factor,
                              const From& from, const To& to) {
    const Lanes<T> d;
    for (std::int64_t i = 0; i < dim; i += lane_count<T>()) {
        hn::Vec<Lanes<T>> sums[kSums];
#pragma GCC unroll 4
        for (int s = 0; s < kSums; ++s) {
            sums[s] = hn::Zero(d);
        }
        for (std::int64_t t = 0; t < terms; ++t) {
            const auto v = load_part(d, from(t) + i, dim - i);
#pragma GCC unroll 4
            for (int s = 0; s < kSums; ++s) {
                if (!kSkips || factor(t, s) != T(0)) {
                    sums[s] = hn::MulAdd(hn::Set(d, factor(t, s)), v, sums[s]);
                }
            }
        }
#pragma GCC unroll 4
        for (int s = 0; s < kSums; ++s) {
            store_part(sums[s], d, to(s) + i, dim - i);
        }
    }
}

// The same for any number of sums.
template <class T, class Factor, class From, class To>
HWY_INLINE void all_weighted_sums(std::int64_t sums, std::int64_t terms, std::int64_t dim,
                                  const Factor& factor, const From& from, const To& to) {
    bool skips = false;
    for (std::int64_t t = 0; t < terms; ++t) {
        for (std::int64_t s = 0; s < sums; ++s) {
            skips |= factor(t, s) == T(0);
        }
    }
    std::int64_t first = 0;
    const auto part = [&](auto count) {
        const auto run = [&](auto skip) {
            weighted_sums<decltype(count)::value, decltype(skip)::value, T>(
                terms, dim, [&](std::int64_t t, int s) { return factor(t, first + s); }, from,
                [&](int s) { return to(first + s); });
        };
        skips ? run(std::true_type()) : run(std::false_type());
        first += count;
    };
    while (sums - first >= kSumsAtOnce) {
        part(std::integral_constant<int, kSumsAtOnce>());
    }
    while (sums - first >= 2) {
        part(std::integral_constant<int, 2>());
    }
    if (first < sums) {
        part(std::integral_constant<int, 1>());
    }
}

// visit(first, n, p): rows of a tile and its weights, (gates, kRowsPerTile, experts).
template <class T, class Visit>
void for_each_tile(const MultiGateArgs<T>& args, const Visit& visit) {
    parallel_for((args.rows + kRowsPerTile - 1) / kRowsPerTile, [&](std::int64_t tile) {
        const std::int64_t first = tile * kRowsPerTile;
        const std::int64_t n = std::min(kRowsPerTile, args.rows - first);
        Workspace& workspace = thread_workspace();
        const std::int64_t size = args.gates * kRowsPerTile * args.experts;
        workspace.reserve(Workspace::bytes_for<T>(size));
        T* const p = workspace.take<T>(size);
        for (std::int64_t g = 0; g < args.gates; ++g) {
            softmax_rows(args.gate_logits + (g * args.rows + first) * args.experts, n, args.experts,
                         p + g * kRowsPerTile * args.experts);
        }
        visit(first, n, p);
    });
}

template <class T>
void multi_gate(const MultiGateArgs<T>& args) {
    const std::int64_t dim = args.dim, stride = args.rows * dim;
    for_each_tile(args, [&](std::int64_t first, std::int64_t n, const T* p) {
        for (std::int64_t r = 0; r < n; ++r) {
            const std::int64_t row = (first + r) * dim;
            all_weighted_sums<T>(
                args.gates, args.experts, dim,
                [&](std::int64_t e, std::int64_t g) {
                    return p[(g * kRowsPerTile + r) * args.experts + e];
                },
                [&](std::int64_t e) { return args.expert_outputs + e * stride + row; },
                [&](std::int64_t g) { return args.mixture + g * stride + row; });
        }
    });
}

template <class T>
void multi_gate_grad(const MultiGateArgs<T>& args) {
    const std::int64_t dim = args.dim, stride = args.rows * dim, experts = args.experts;
    for_each_tile(args, [&](std::int64_t first, std::int64_t n, const T* p) {
        for (std::int64_t r = 0; r < n; ++r) {
            const std::int64_t row = (first + r) * dim;
            const auto weights = [&](std::int64_t g) {
                return p + (g * kRowsPerTile + r) * experts;
            };
            all_weighted_sums<T>(
                experts, args.gates, dim,
                [&](std::int64_t g, std::int64_t e) { return weights(g)[e]; },
                [&](std::int64_t g) { return args.dmixture + g * stride + row; },
                [&](std::int64_t e) { return args.dexpert + e * stride + row; });
            for (std::int64_t g = 0; g < args.gates; ++g) {
                T* const dlogits = args.dlogits + (g * args.rows + first + r) * experts;
                T mean = 0;
                for (std::int64_t e = 0; e < experts; ++e) {
                    if (weights(g)[e] == T(0)) {
                        dlogits[e] = 0;
                        continue;
                    }
                    dlogits[e] = row_dot(args.dmixture + g * stride + row,
                                         args.expert_outputs + e * stride + row, dim);
                    mean += weights(g)[e] * dlogits[e];
                }
                for (std::int64_t e = 0; e < experts; ++e) {
                    dlogits[e] = weights(g)[e] == T(0) ? T(0) : weights(g)[e] * (dlogits[e] - mean);
                }
            }
        }
    });
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace seqrec_fast {
SEQREC_DISPATCH_FLOATS(multi_gate_cpu, multi_gate, MultiGateArgs)
SEQREC_DISPATCH_FLOATS(multi_gate_grad_cpu, multi_gate_grad, MultiGateArgs)
}  // namespace seqrec_fast
#endif  // HWY_ONCE
