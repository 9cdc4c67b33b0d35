// A scored item as one 64-bit key: the score in the order of integers, then the inverted id. A
// larger key comes first. Keys are unique, so the best k of any set of candidates is one definite
// answer, whatever the order they came in and however the set was split. For CPU and CUDA.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define SEQREC_KEY_FN __host__ __device__ inline
#else
#define SEQREC_KEY_FN inline
#endif

namespace seqrec_fast {

// Unsigned integers in the order of floats; -0 and +0 are the same one.
SEQREC_KEY_FN std::uint32_t orderable(float score) {
    score += 0.0f;  // -0 becomes +0
    std::uint32_t bits;
    std::memcpy(&bits, &score, sizeof(bits));
    return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

SEQREC_KEY_FN float from_orderable(std::uint32_t order) {
    const std::uint32_t bits = (order >> 31) != 0 ? order & 0x7fffffffu : ~order;
    float score;
    std::memcpy(&score, &bits, sizeof(score));
    return score;
}

SEQREC_KEY_FN std::uint64_t candidate_key(float score, std::uint32_t id) {
    return (static_cast<std::uint64_t>(orderable(score)) << 32) | ~id;
}
SEQREC_KEY_FN float candidate_score(std::uint64_t key) {
    return from_orderable(static_cast<std::uint32_t>(key >> 32));
}
SEQREC_KEY_FN std::uint32_t candidate_id(std::uint64_t key) {
    return ~static_cast<std::uint32_t>(key);
}

}  // namespace seqrec_fast

#undef SEQREC_KEY_FN
