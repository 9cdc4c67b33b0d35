// Dropout of the elements of rows that are looked up in a table, or of a matrix in place.
#pragma once

#include <cstdint>

namespace seqrec_fast {

// Row i of `to` is row ids[i] of `from` (row i without ids) with each element zeroed with
// probability p, and scaled by 1 / (1 - p) else. Whether it is zeroed is a function of the seed,
// the stream, i and the column (cpu/philox-inl.h), so that gradients get the same again.
template <class T>
struct DropoutArgs {
    const T* from;
    const std::int64_t* ids;  // (rows); optional, and then `to` may be `from`
    std::int64_t rows, dim;
    double p;
    std::uint64_t seed;
    std::uint32_t stream;
    T* to;
};

template <class T>
void dropout_cpu(const DropoutArgs<T>& args);

}  // namespace seqrec_fast
