// A catalogue of item vectors as the kernels read it. It owns nothing: the memory may be mapped
// from a file.
//
// Items lie in blocks of 64 (four packed vectors of scores). The item at position p is not the item
// with id p: positions are sorted so that the items of a block are of like magnitude.
#pragma once

#include <cstdint>

namespace seqrec_fast {

constexpr std::int64_t kItemBlock = 64;

// The float64 value of the code c (0 to 255) of a block is scale * (c - 128). Its upper half h
// (0 to 15) alone stands for the middle of what it leaves open, scale * (16 h + 7.5 - 128).
struct BlockBounds {
    double scale;
    double residual;       // largest |item - what its code stands for|; inf if not finite
    double high_residual;  // the same for the upper half of its code alone
    double norm;           // largest |item|
    double bias;           // largest |bias|
    // Items that the above leaves out, because their score is NaN or -inf whatever the query.
    double n_hopeless;
};
constexpr std::int64_t kBlockBounds = sizeof(BlockBounds) / sizeof(double);

// The first code of such an item; those of others are 1 to 255.
constexpr std::uint8_t kHopelessCode = 0;

struct PackedItems {
    std::int64_t n_items = 0, dim = 0;
    // One of them. Scanned in float32: (blocks, dim, 64), with NaN beyond the last item. With
    // codes, or used once, (n_items, dim).
    const float* float_vectors = nullptr;
    const std::uint16_t* bfloat16_vectors = nullptr;
    const float* bias = nullptr;              // by position; optional
    const std::int32_t* ids = nullptr;        // id of a position
    const std::int32_t* positions = nullptr;  // position of an id
    // (blocks, word_pairs(dim), 64 items, 4): the upper and lower halves of codes. A word is the
    // codes of four neighbouring terms; of a pair of words the first takes the lower four bits.
    const std::uint8_t* high = nullptr;
    const std::uint8_t* low = nullptr;
    const BlockBounds* bounds = nullptr;  // (blocks); null: float_vectors that are used once
    // The slice of a larger catalogue that this is: ids outside are id_offset more, below n_ids.
    std::int64_t id_offset = 0, n_ids = 0;

    bool has_codes() const { return high != nullptr; }
    bool by_rows() const { return has_codes() || bounds == nullptr; }
    std::int64_t n_blocks() const { return (n_items + kItemBlock - 1) / kItemBlock; }
};

constexpr std::int64_t words_of(std::int64_t dim) {
    return (dim + 3) / 4;
}
constexpr std::int64_t word_pairs(std::int64_t dim) {
    return (words_of(dim) + 1) / 2;
}
constexpr std::int64_t kPairBytes = kItemBlock * 4;
// So that no sum of products of codes leaves 32 bits.
constexpr std::int64_t kMaxCodedDim = 50000;

}  // namespace seqrec_fast
