// The k largest of each row, larger first, ties by the smaller place, NaN never.
//
// Few of few are found for 16 rows at once, a row to a lane: columns are loaded in blocks of 16
// bytes, turned in registers, and inserted into the best so far. Else a row is reduced to the
// largest of 16 or 64 groups; the k-th largest of those bounds what the answer can hold, and the
// few values that reach it are ranked by counting. What is left is sorted.

// Per-target include guard
#if defined(SEQREC_CPU_GATE_CHOICE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_GATE_CHOICE_INL_H_
#undef SEQREC_CPU_GATE_CHOICE_INL_H_
#else
#define SEQREC_CPU_GATE_CHOICE_INL_H_
#endif

#include <algorithm>
#include <cmath>
#include <vector>

#include "cpu/gate_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Most slots, and columns, that are worth insertion.
constexpr std::int64_t kMaxInserted = 4;
constexpr std::int64_t kMaxInsertedColumns = 512;
// Most values that are ranked by counting.
constexpr std::int64_t kMaxRanked = 128;

template <class T>
constexpr T kLeast = -std::numeric_limits<T>::infinity();

// A block of 16 bytes per row: block b has the first values of row b * block of p.
template <class D, class T = hn::TFromD<D>>
HWY_INLINE hn::Vec<D> load_blocks(D d, const T* p, std::int64_t stride) {
#if HWY_TARGET != HWY_SCALAR
    constexpr auto kLanes = static_cast<std::int64_t>(hn::MaxLanes(D()));
    if constexpr (kLanes * sizeof(T) > 16) {
        const hn::Half<D> half;
        return hn::Combine(d, load_blocks(half, p + kLanes / 2 * stride, stride),
                           load_blocks(half, p, stride));
    }
#endif
    return hn::LoadU(d, p);
}

// Calls visit(e, column e of lane_count rows) in order.
template <class T, class Visit>
HWY_INLINE void visit_columns(const T* keys, std::int64_t stride, std::int64_t experts,
                              const Visit& visit) {
    const Lanes<T> d;
    constexpr std::int64_t kLanes = lane_count<T>();
    std::int64_t e = 0;
#if HWY_TARGET != HWY_SCALAR
    constexpr std::int64_t kBlock = 16 / sizeof(T);
    for (; e + kBlock <= experts; e += kBlock) {
        const auto row = [&](std::int64_t r) {
            return load_blocks(d, keys + r * stride + e, stride);
        };
        if constexpr (kBlock == 2) {
            const auto a = row(0), b = row(1);
            visit(e, hn::InterleaveLower(d, a, b));
            visit(e + 1, hn::InterleaveUpper(d, a, b));
        } else {
            const auto a = row(0), b = row(1), c = row(2), f = row(3);
            const auto ac = hn::InterleaveLower(d, a, c), bf = hn::InterleaveLower(d, b, f);
            visit(e, hn::InterleaveLower(d, ac, bf));
            visit(e + 1, hn::InterleaveUpper(d, ac, bf));
            const auto ac2 = hn::InterleaveUpper(d, a, c), bf2 = hn::InterleaveUpper(d, b, f);
            visit(e + 2, hn::InterleaveLower(d, ac2, bf2));
            visit(e + 3, hn::InterleaveUpper(d, ac2, bf2));
        }
    }
#endif
    for (; e < experts; ++e) {
        alignas(kCacheLine) T column[kLanes];
        for (std::int64_t r = 0; r < kLanes; ++r) {
            column[r] = keys[r * stride + e];
        }
        visit(e, hn::Load(d, column));
    }
}

// -inf is what a slot without a value holds, so candidates of -inf are appended here.
template <class T>
void append_least(const T* keys, std::int64_t experts, std::int64_t k, T* values, LaneId<T>* ids) {
    std::int64_t j = 0;
    while (j < k && ids[j * kGateRows] >= 0) {
        ++j;
    }
    for (std::int64_t e = 0; e < experts && j < k; ++e) {
        if (keys[e] == kLeast<T>) {
            values[j * kGateRows] = kLeast<T>;
            ids[j * kGateRows] = static_cast<LaneId<T>>(e);
            ++j;
        }
    }
}

// The best kSlots of each of kGateRows rows.
template <int kSlots, class T>
void choose_by_insertion(const T* keys, std::int64_t stride, std::int64_t experts,
                         GateTile<T>& tile) {
    const Lanes<T> d;
    const hn::RebindToSigned<Lanes<T>> di;
    for (std::int64_t first = 0; first < kGateRows; first += lane_count<T>()) {
        hn::Vec<Lanes<T>> value[kSlots];
        hn::Vec<decltype(di)> id[kSlots];
        for (int j = 0; j < kSlots; ++j) {
            value[j] = hn::Set(d, kLeast<T>);
            id[j] = hn::Set(di, -1);
        }
        const auto insert = [&](std::int64_t e, hn::Vec<Lanes<T>> x) HWY_ATTR {
            const auto place = hn::Set(di, static_cast<LaneId<T>>(e));
            auto below = hn::Gt(x, value[kSlots - 1]);
            for (int j = kSlots - 1; j > 0; --j) {
                const auto above = hn::Gt(x, value[j - 1]);
                value[j] = hn::IfThenElse(above, value[j - 1], hn::IfThenElse(below, x, value[j]));
                id[j] = hn::IfThenElse(hn::RebindMask(di, above), id[j - 1],
                                       hn::IfThenElse(hn::RebindMask(di, below), place, id[j]));
                below = above;
            }
            value[0] = hn::IfThenElse(below, x, value[0]);
            id[0] = hn::IfThenElse(hn::RebindMask(di, below), place, id[0]);
        };
        visit_columns(keys + first * stride, stride, experts, insert);
        for (int j = 0; j < kSlots; ++j) {
            hn::StoreU(value[j], d, tile.values + j * kGateRows + first);
            hn::StoreU(id[j], di, tile.ids + j * kGateRows + first);
        }
        if (!hn::AllFalse(di, hn::Lt(id[kSlots - 1], hn::Zero(di)))) {
            for (std::int64_t r = first; r < first + lane_count<T>(); ++r) {
                append_least(keys + r * stride, experts, kSlots, tile.values + r, tile.ids + r);
            }
        }
    }
}

// Rows one by one; `candidates` and `places` have room for a row and a vector.
template <class T>
struct RowChoice {
    struct Candidate {
        T value;
        LaneId<T> id;
        bool operator<(const Candidate& other) const {
            return value > other.value || (value == other.value && id < other.id);
        }
    };
    T* candidates;
    LaneId<T>* places;
    std::vector<Candidate> sorted;

    static std::size_t bytes(std::int64_t experts) {
        return Workspace::bytes_for<T>(experts + kPackedLanes<T>) +
               Workspace::bytes_for<LaneId<T>>(experts + kPackedLanes<T>);
    }
    RowChoice(Workspace& workspace, std::int64_t experts)
        : candidates(workspace.take<T>(experts + kPackedLanes<T>)),
          places(workspace.take<LaneId<T>>(experts + kPackedLanes<T>)) {}

    // The best k of a row; slots are kGateRows apart.
    void choose(const T* keys, std::int64_t experts, std::int64_t k, T* values, LaneId<T>* ids) {
        for (std::int64_t j = 0; j < k; ++j) {
            values[j * kGateRows] = kLeast<T>;
            ids[j * kGateRows] = -1;
        }
        if (k > 32 || experts < 2 * k) {
            sort(keys, experts, k, values, ids);
            return;
        }
        const T bound =
            k <= 8 ? least_possible<16>(keys, experts, k) : least_possible<64>(keys, experts, k);
        std::int64_t n = collect(keys, experts, bound);
        if (n > kMaxRanked) {
            n = drop_ties(n, k, bound);
        }
        if (n > kMaxRanked) {
            sort(keys, experts, k, values, ids);
        } else {
            rank(n, k, values, ids);
        }
    }

  private:
    // A number that k values reach: the k-th largest of the largest in kGroups groups.
    template <int kGroups>
    static T least_possible(const T* keys, std::int64_t experts, std::int64_t k) {
        constexpr std::int64_t kLanes = lane_count<T>();
        constexpr std::int64_t kVectors = kGroups / kLanes;
        // Enough comparisons that do not wait for each other.
        constexpr std::int64_t kChains = 64 / kLanes;
        const Lanes<T> d;
        hn::Vec<Lanes<T>> most[kChains];
        for (auto& m : most) {
            m = hn::Set(d, kLeast<T>);
        }
        const auto take = [&](std::int64_t v, hn::Vec<Lanes<T>> x) HWY_ATTR {
            most[v] = hn::IfThenElse(hn::Gt(x, most[v]), x, most[v]);
        };
        std::int64_t e = 0;
        for (; e + 64 <= experts; e += 64) {
            for (std::int64_t v = 0; v < kChains; ++v) {
                take(v, hn::LoadU(d, keys + e + v * kLanes));
            }
        }
        for (std::int64_t v = 0; e < experts; e += kLanes, ++v) {
            take(v, load_candidates(d, keys + e, experts - e));
        }
        for (std::int64_t v = kVectors; v < kChains; ++v) {
            take(v % kVectors, most[v]);
        }
        alignas(kCacheLine) T groups[kGroups];
        for (std::int64_t v = 0; v < kVectors; ++v) {
            hn::Store(most[v], d, groups + v * kLanes);
        }
        T bound = std::numeric_limits<T>::infinity();
        for (const T group : groups) {
            std::int64_t larger = 0;
            for (std::int64_t v = 0; v < kVectors; ++v) {
                larger +=
                    static_cast<std::int64_t>(hn::CountTrue(d, hn::Gt(most[v], hn::Set(d, group))));
            }
            bound = larger < k ? std::min(bound, group) : bound;
        }
        return bound;
    }

    // Puts the values that reach `bound` aside, in order; returns their number.
    std::int64_t collect(const T* keys, std::int64_t experts, T bound) {
        const Lanes<T> d;
        const auto least = hn::Set(d, bound);
        constexpr std::int64_t kLanes = lane_count<T>();
        std::int64_t n = 0;
        // Where lanes can be compressed by an instruction. Else few are taken from bits of many.
        if constexpr (HWY_TARGET == HWY_AVX3) {
            const hn::RebindToSigned<Lanes<T>> di;
            auto place = hn::Iota(di, 0);
            const auto step = hn::Set(di, static_cast<LaneId<T>>(kLanes));
            for (std::int64_t e = 0; e < experts; e += kLanes) {
                const auto x = load_candidates(d, keys + e, experts - e);
                const auto reaches = hn::Ge(x, least);
                hn::StoreU(hn::Compress(x, reaches), d, candidates + n);
                hn::StoreU(hn::Compress(place, hn::RebindMask(di, reaches)), di, places + n);
                n += static_cast<std::int64_t>(hn::CountTrue(d, reaches));
                place = hn::Add(place, step);
            }
        } else {
            for (std::int64_t first = 0; first < experts; first += 64) {
                std::uint64_t reaching = 0;
                for (std::int64_t e = first; e < std::min(experts, first + 64); e += kLanes) {
                    const auto x = load_candidates(d, keys + e, experts - e);
                    std::uint8_t bits[8];
                    hn::StoreMaskBits(d, hn::Ge(x, least), bits);
                    reaching |= std::uint64_t{bits[0]} << (e - first);
                }
                for (; reaching != 0; reaching &= reaching - 1) {
                    const std::int64_t e =
                        first +
                        static_cast<std::int64_t>(hwy::Num0BitsBelowLS1Bit_Nonzero64(reaching));
                    candidates[n] = keys[e];
                    places[n++] = static_cast<LaneId<T>>(e);
                }
            }
        }
        return n;
    }

    // Keeps those above `bound`, and of those equal to it the first that the answer has room for:
    // the logits of a gate that begins with zeros are all equal.
    std::int64_t drop_ties(std::int64_t n, std::int64_t k, T bound) {
        std::int64_t room = k, kept = 0;
        for (std::int64_t i = 0; i < n; ++i) {
            room -= candidates[i] > bound ? 1 : 0;
        }
        for (std::int64_t i = 0; i < n; ++i) {
            if (candidates[i] > bound || room-- > 0) {
                candidates[kept] = candidates[i];
                places[kept++] = places[i];
            }
        }
        return kept;
    }

    // Of candidates in the order of their ids.
    void rank(std::int64_t n, std::int64_t k, T* values, LaneId<T>* ids) {
        const Lanes<T> d;
        constexpr std::int64_t kLanes = lane_count<T>();
        std::fill_n(candidates + n, kLanes, kLeast<T>);
        for (std::int64_t i = 0; i < n; ++i) {
            const auto x = hn::Set(d, candidates[i]);
            std::int64_t better = 0;
            for (std::int64_t v = 0; v < n; v += kLanes) {
                const auto others = hn::LoadU(d, candidates + v);
                const auto before = hn::FirstN(
                    d, static_cast<std::size_t>(std::clamp<std::int64_t>(i - v, 0, kLanes)));
                const auto wins = hn::Or(hn::Gt(others, x), hn::And(hn::Eq(others, x), before));
                better += static_cast<std::int64_t>(hn::CountTrue(d, wins));
            }
            if (better < k) {
                values[better * kGateRows] = candidates[i];
                ids[better * kGateRows] = places[i];
            }
        }
    }

    void sort(const T* keys, std::int64_t experts, std::int64_t k, T* values, LaneId<T>* ids) {
        sorted.clear();
        for (std::int64_t e = 0; e < experts; ++e) {
            if (!std::isnan(keys[e])) {
                sorted.push_back({keys[e], static_cast<LaneId<T>>(e)});
            }
        }
        const auto end = sorted.begin() + std::min(k, static_cast<std::int64_t>(sorted.size()));
        if (end != sorted.end()) {
            std::nth_element(sorted.begin(), end, sorted.end());
        }
        std::sort(sorted.begin(), end);
        for (auto it = sorted.begin(); it != end; ++it) {
            const auto j = it - sorted.begin();
            values[j * kGateRows] = it->value;
            ids[j * kGateRows] = it->id;
        }
    }
};

// The best k of `rows` rows, up to kGateRows.
template <class T>
void choose_experts(const T* keys, std::int64_t stride, std::int64_t rows, std::int64_t experts,
                    std::int64_t k, GateTile<T>& tile, RowChoice<T>& choice) {
    if (rows == kGateRows && k <= kMaxInserted && experts <= kMaxInsertedColumns) {
        switch (k) {
            case 1: return choose_by_insertion<1>(keys, stride, experts, tile);
            case 2: return choose_by_insertion<2>(keys, stride, experts, tile);
            case 3: return choose_by_insertion<3>(keys, stride, experts, tile);
            default: return choose_by_insertion<4>(keys, stride, experts, tile);
        }
    }
    for (std::int64_t r = 0; r < rows; ++r) {
        choice.choose(keys + r * stride, experts, k, tile.values + r, tile.ids + r);
    }
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
