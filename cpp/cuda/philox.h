// Random bits by counter, see cells/philox_cell-inl.h.
#pragma once

#include <cstdint>

#include "cells/philox_cell-inl.h"
#include "cuda/simt.h"

namespace seqrec_fast {
namespace cuda {

struct PhiloxWords {
    std::uint32_t words[4];
};

// Those of the counter (first, a, b, c).
SEQREC_FN PhiloxWords philox_words(std::uint64_t key, std::uint32_t first, std::uint32_t a,
                                   std::uint32_t b, std::uint32_t c) {
    PhiloxWords x{{first, a, b, c}};
    PhiloxKey round_key(key);
    for (int round = 0; round < kPhiloxRounds; ++round) {
        round_key.mix(x.words[0], x.words[1], x.words[2], x.words[3]);
        round_key.advance();
    }
    return x;
}

}  // namespace cuda
}  // namespace seqrec_fast
