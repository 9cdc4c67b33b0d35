// Rows in pieces of 16 bytes where they are aligned to that, else by single elements; a power of
// two of lanes shares a row, so that short rows leave few lanes idle.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <type_traits>

#include "cells/target_macros.h"
#include "cuda/warp.h"

namespace seqrec_fast {
namespace cuda {

template <class T, int N>
struct alignas(N * sizeof(T)) RowVector {
    T values[N];

    // p: aligned to the vector.
    static SEQREC_FN RowVector load(const T* p) {
#if defined(__CUDACC__)
        return *reinterpret_cast<const RowVector*>(p);
#else
        RowVector result;
        std::memcpy(&result, p, sizeof result);
        return result;
#endif
    }
    SEQREC_FN void store(T* p) const {
#if defined(__CUDACC__)
        *reinterpret_cast<RowVector*>(p) = *this;
#else
        std::memcpy(p, this, sizeof *this);
#endif
    }
};

// Calls visit(std::integral_constant<int, N>()): N elements of rows of `dim` may be read and
// written at once in all `arrays`.
template <class T, class Arrays, class Visit>
void with_row_vectors_of(std::int64_t dim, const Arrays& arrays, const Visit& visit) {
    constexpr int kWide = 16 / static_cast<int>(sizeof(T));
    bool wide = dim % kWide == 0;
    for (const void* const array : arrays) {
        wide = wide && reinterpret_cast<std::uintptr_t>(array) % 16 == 0;
    }
    if (wide) {
        visit(std::integral_constant<int, kWide>());
    } else {
        visit(std::integral_constant<int, 1>());
    }
}

template <class T, class Visit>
void with_row_vectors(std::int64_t dim, std::initializer_list<const void*> arrays,
                      const Visit& visit) {
    with_row_vectors_of<T>(dim, arrays, visit);
}

// Lanes that share a row: 1 << bits.
struct RowLanes {
    unsigned bits;

    // As few as have a vector each.
    static RowLanes of(std::int64_t vectors) {
        RowLanes lanes{0};
        while (lanes.count() < kWarp && lanes.count() < vectors) {
            ++lanes.bits;
        }
        return lanes;
    }

    __host__ __device__ int count() const { return 1 << bits; }
    // The row of this thread, and which of its lanes it is.
    SEQREC_FN std::int64_t row() const {
        return (static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) >> bits;
    }
    SEQREC_FN int lane() const { return static_cast<int>(threadIdx.x) & (count() - 1); }

    // Sum over the lanes of a row; every lane of the warp takes part.
    template <class T>
    SEQREC_FN T sum(T value) const {
        for (int other = count() / 2; other > 0; other /= 2) {
            value += __shfl_xor_sync(kAllLanes, value, other);
        }
        return value;
    }
    // The largest that is not NaN, if every lane gives one that is not.
    template <class T>
    SEQREC_FN T max(T value) const {
        for (int other_lane = count() / 2; other_lane > 0; other_lane /= 2) {
            const T other = __shfl_xor_sync(kAllLanes, value, other_lane);
            value = other > value ? other : value;
        }
        return value;
    }
    // The lane's part of a dot product.
    template <class T, int N>
    SEQREC_FN T dot(const T* a, const T* b, std::int64_t dim) const {
        T result = 0;
        for (std::int64_t i = lane() * N; i < dim; i += count() * N) {
            const auto x = RowVector<T, N>::load(a + i), y = RowVector<T, N>::load(b + i);
            for (int c = 0; c < N; ++c) {
                result = std::fma(x.values[c], y.values[c], result);
            }
        }
        return result;
    }
};

}  // namespace cuda
}  // namespace seqrec_fast
