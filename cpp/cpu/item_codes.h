// Writing a catalogue: vectors, their 8-bit codes and what bounds the error of the codes.
#pragma once

#include "cpu/packed_items.h"

namespace seqrec_fast {

// The arrays of PackedItems, to be written.
struct ItemStorage {
    float* float_vectors;
    std::uint16_t* bfloat16_vectors;
    float* bias;
    std::uint8_t* high;
    std::uint8_t* low;
    BlockBounds* bounds;
};

// Position positions[i] (ascending) becomes rows[sources[i]], and its bias bias[sources[i]] if
// there is one.
struct ItemWrite {
    const std::int64_t* positions;
    const std::int64_t* sources;
    std::int64_t n;
    const float* rows;  // (any, dim)
    const float* bias;  // (any); optional
};

// Writes, then encodes every touched block anew. `items` has the number of items after it.
void write_items(const PackedItems& items, const ItemStorage& storage, const ItemWrite& write);

// The largest magnitude of each row: inf if a value is infinite, 0 if one is NaN.
void item_peaks(const float* rows, std::int64_t n, std::int64_t dim, float* peaks);

}  // namespace seqrec_fast
