// The score of a query and an item, the one that is reported and ordered by: the float32 chain of
// fused multiply-adds in the order of the terms, then plus the bias. It has the bits of the
// register tiles of gemm-inl.h for an op that selects.

// Per-target include guard
#if defined(SEQREC_CPU_ITEM_SCORES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_ITEM_SCORES_INL_H_
#undef SEQREC_CPU_ITEM_SCORES_INL_H_
#else
#define SEQREC_CPU_ITEM_SCORES_INL_H_
#endif

#include <algorithm>
#include <limits>

#include "base/bfloat16.h"
#include "cpu/packed_items.h"
#include "cpu/packed_panels.h"
#include "cpu/simd_math-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

HWY_INLINE float as_float(float value) {
    return value;
}
HWY_INLINE float as_float(std::uint16_t bits) {
    return from_bfloat16(bits);
}

// Sums of kPairs pairs side by side, so that their chains hide each other's latency.
template <int kPairs, class Value>
HWY_INLINE void add_products(const float* const* queries, const Value* const* items,
                             std::int64_t dim, std::int64_t step, float* sums) {
    const hn::CappedTag<float, 1> d;
    hn::Vec<decltype(d)> acc[kPairs];
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; ++i) {
        acc[i] = hn::Zero(d);
    }
    // A few terms of one pair at a time: there are fewer registers than pointers.
    constexpr std::int64_t kTerms = 4;
    std::int64_t k = 0;
    for (; k + kTerms <= dim; k += kTerms) {
#pragma GCC unroll 8
        for (int i = 0; i < kPairs; ++i) {
            const float* const query = queries[i] + k;
            const Value* const item = items[i] + k * step;
#pragma GCC unroll 4
            for (std::int64_t j = 0; j < kTerms; ++j) {
                acc[i] =
                    hn::MulAdd(hn::Set(d, query[j]), hn::Set(d, as_float(item[j * step])), acc[i]);
            }
        }
    }
    for (; k < dim; ++k) {
#pragma GCC unroll 8
        for (int i = 0; i < kPairs; ++i) {
            acc[i] = hn::MulAdd(hn::Set(d, queries[i][k]), hn::Set(d, as_float(items[i][k * step])),
                                acc[i]);
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < kPairs; ++i) {
        sums[i] = hn::GetLane(acc[i]);
    }
}

// Pairs of a query (a row of a tile) and an item (a position) that wait to be scored together; in
// the meantime the item's vector comes from memory.
class Candidates {
  public:
    static constexpr int kMost = 32;

    Candidates(const PackedItems& items, const float* queries) : items_(items), queries_(queries) {}

    // Calls use(row, position, score) for all of them when there is no room for another one.
    template <class Use>
    HWY_INLINE void put(std::int64_t row, std::int64_t position, const Use& use) {
        if (n_ == kMost) {
            score(use);
        }
        rows_[n_] = row;
        positions_[n_] = position;
        ++n_;
        if (items_.has_codes()) {
            prefetch(position);
        }
    }
    // The same as soon as there are enough to hide each other's latency.
    template <class Use>
    HWY_INLINE void settle(const Use& use) {
        if (n_ >= kPairs) {
            score(use);
        }
    }
    template <class Use>
    HWY_NOINLINE void score(const Use& use) {
        float scores[kMost];
        if (items_.float_vectors != nullptr) {
            score_all(items_.float_vectors, scores);
        } else {
            score_all(items_.bfloat16_vectors, scores);
        }
        const int n = n_;
        n_ = 0;
        for (int i = 0; i < n; ++i) {
            float score = scores[i];
            if (items_.bias != nullptr) {
                score += items_.bias[positions_[i]];
            }
            use(rows_[i], positions_[i], score);
        }
    }

  private:
    static constexpr int kPairs = 8;

    HWY_INLINE void prefetch(std::int64_t position) const {
        const bool wide = items_.float_vectors != nullptr;
        const std::int64_t bytes = items_.dim * (wide ? 4 : 2);
        const char* from = (wide ? reinterpret_cast<const char*>(items_.float_vectors)
                                 : reinterpret_cast<const char*>(items_.bfloat16_vectors)) +
                           position * bytes;
        for (std::int64_t at = 0; at < std::min<std::int64_t>(bytes, 512); at += 64) {
            __builtin_prefetch(from + at, 0, 3);
        }
        __builtin_prefetch(items_.ids + position, 0, 3);
    }
    template <class Value>
    HWY_INLINE void score_all(const Value* vectors, float* scores) {
        const std::int64_t dim = items_.dim, step = items_.by_rows() ? 1 : kItemBlock;
        const float* queries[kMost];
        const Value* items[kMost];
        for (int i = 0; i < n_; ++i) {
            const std::int64_t p = positions_[i];
            queries[i] = queries_ + rows_[i] * dim;
            items[i] =
                vectors +
                (items_.by_rows() ? p * dim : p / kItemBlock * dim * kItemBlock + p % kItemBlock);
        }
        int i = 0;
        for (; i + kPairs <= n_; i += kPairs) {
            add_products<kPairs>(queries + i, items + i, dim, step, scores + i);
        }
        for (; i < n_; ++i) {
            add_products<1>(queries + i, items + i, dim, step, scores + i);
        }
    }

    const PackedItems& items_;
    const float* queries_;
    int n_ = 0;
    std::int64_t rows_[kMost], positions_[kMost];
};

constexpr std::int64_t kRowsAtOnce = 8;

// The rows with hits, few of many, without a branch per row. `hits` and `rows` have kRowsAtOnce
// more entries, those of `hits` zero. Returns how many there are.
HWY_INLINE std::int64_t rows_hit(const std::uint64_t* hits, std::int64_t n_rows,
                                 std::int64_t* rows) {
    std::int64_t n = 0;
    for (std::int64_t first = 0; first < n_rows; first += kRowsAtOnce) {
        std::uint64_t any = 0;
        for (std::int64_t i = 0; i < kRowsAtOnce; ++i) {
            any |= hits[first + i];
        }
        if (any == 0) {
            continue;
        }
        for (std::int64_t i = 0; i < kRowsAtOnce; ++i) {
            rows[n] = first + i;
            n += hits[first + i] != 0 ? 1 : 0;
        }
    }
    return n;
}

// Calls visit(position) for each bit of a block's hits.
template <class Visit>
HWY_INLINE void each_hit(std::int64_t block, std::uint64_t hits, const Visit& visit) {
    for (; hits != 0; hits &= hits - 1) {
        visit(block * kItemBlock + __builtin_ctzll(hits));
    }
}

// What the ops of gemm-inl.h share that see the float32 scores of a block in their registers.
struct ItemTile {
    static constexpr bool kSelects = true;
    using V = hn::Vec<Lanes<float>>;

    ItemTile(const PackedItems& items, std::int64_t block)
        : bias(items.bias), first_item(block * kItemBlock) {}

    template <int kVectors>
    HWY_INLINE void init(std::int64_t, std::int64_t, V (&acc)[kVectors]) const {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            acc[v] = hn::Zero(Lanes<float>());
        }
    }
    // The position of the first lane of a vector, and the scores of its sums.
    HWY_INLINE std::int64_t item(int vector, std::int64_t lane) const {
        return first_item + vector * kPackedLanes<float> + lane;
    }
    HWY_INLINE V score(V sum, std::int64_t first) const {
        return bias == nullptr ? sum : hn::Add(sum, hn::LoadU(Lanes<float>(), bias + first));
    }
    // Calls visit(position, score) for a row's scores, one by one.
    template <int kVectors, class Visit>
    HWY_INLINE void each(std::int64_t lane, const V (&acc)[kVectors], const Visit& visit) const {
        alignas(kCacheLine) float scores[lane_count<float>()];
        for (int v = 0; v < kVectors; ++v) {
            hn::Store(score(acc[v], item(v, lane)), Lanes<float>(), scores);
            for (std::int64_t i = 0; i < lane_count<float>(); ++i) {
                visit(item(v, lane) + i, scores[i]);
            }
        }
    }

    const float* bias;
    std::int64_t first_item;
};

// A block's panel in float32: where it lies, or in `room` (dim * 64).
HWY_INLINE const float* float_panel(const PackedItems& items, std::int64_t block, float* room) {
    const std::int64_t n = items.dim * kItemBlock;
    if (items.by_rows()) {
        const std::int64_t first = block * kItemBlock;
        const std::int64_t used = std::min(kItemBlock, items.n_items - first);
        const float* rows[kItemBlock];
        for (std::int64_t i = 0; i < used; ++i) {
            rows[i] = items.float_vectors + (first + i) * items.dim;
        }
        transpose_cpu<float>({rows, used, items.dim, room, kItemBlock});
        for (std::int64_t k = 0; used < kItemBlock && k < items.dim; ++k) {
            std::fill(room + k * kItemBlock + used, room + (k + 1) * kItemBlock,
                      std::numeric_limits<float>::quiet_NaN());
        }
        return room;
    }
    if (items.float_vectors != nullptr) {
        return items.float_vectors + block * n;
    }
    const Lanes<std::uint32_t> d;
    const hn::Rebind<std::uint16_t, decltype(d)> d16;
    const std::uint16_t* from = items.bfloat16_vectors + block * n;
    for (std::int64_t i = 0; i < n; i += lane_count<float>()) {
        const auto wide = hn::ShiftLeft<16>(hn::PromoteTo(d, hn::LoadU(d16, from + i)));
        hn::StoreU(hn::BitCast(Lanes<float>(), wide), Lanes<float>(), room + i);
    }
    return room;
}

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
