// Rows become columns.
#pragma once

#include <cstdint>

namespace seqrec_fast {

// to[k * stride + i] = rows[i][k] for i < n, k < depth.
template <class T>
struct TransposeArgs {
    const T* const* rows;
    std::int64_t n, depth;
    T* to;
    std::int64_t stride;
};

template <class T>
void transpose_cpu(const TransposeArgs<T>& args);

}  // namespace seqrec_fast
