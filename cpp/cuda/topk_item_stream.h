// Packed items on their way through shared memory: a part is computed with while the next two come.
#pragma once

#include "cuda/async_copy.h"
#include "cuda/topk_survivors.h"

namespace seqrec_fast {
namespace cuda {

class ItemStream {
  public:
    static constexpr int kBuffers = 3;
    static constexpr int kPairBytes = kTensorItems * kPairTerms * 2;
    static constexpr int kBufferBytes = kPairsOfPart * kPairBytes + TopkTensorPlan::kHeadBytes;

    // Tiles first, first + step, ... below `end` of `packed`.
    SEQREC_FN ItemStream(const unsigned char* packed, int pairs, int first, int step, int end,
                         unsigned char* buffers)
        : packed_(packed),
          tile_bytes_(std::int64_t{pairs} * kPairBytes + TopkTensorPlan::kHeadBytes),
          buffers_(buffers),
          pairs_(pairs),
          tile_(first),
          step_(step),
          end_(end) {
        for (int i = 1; i < kBuffers; ++i) {
            fetch();
        }
    }

    // Waits for the next part: its pairs and, of the last part of a tile, then the head. All
    // threads call it, and are done with the part before.
    SEQREC_FN const unsigned char* next() {
        wait_for_copy_groups<kBuffers - 2>();
        __syncthreads();
        const unsigned char* const part = buffers_ + used_ * kBufferBytes;
        used_ = after(used_);
        fetch();
        return part;
    }

  private:
    static SEQREC_FN int after(int buffer) { return buffer + 1 == kBuffers ? 0 : buffer + 1; }

    SEQREC_FN void fetch() {
        if (tile_ < end_) {
            const int left = pairs_ - pair_;
            const bool last = left <= kPairsOfPart;
            const int bytes =
                last ? left * kPairBytes + TopkTensorPlan::kHeadBytes : kPairsOfPart * kPairBytes;
            const unsigned char* const from =
                packed_ + tile_ * tile_bytes_ + std::int64_t{pair_} * kPairBytes;
            unsigned char* const to = buffers_ + filled_ * kBufferBytes;
            for (int i = static_cast<int>(threadIdx.x) * 16; i < bytes; i += kTopkThreads * 16) {
                copy_16_bytes_async(to + i, from + i, true);
            }
            pair_ = last ? 0 : pair_ + kPairsOfPart;
            tile_ += last ? step_ : 0;
        }
        filled_ = after(filled_);
        end_copy_group();
    }

    const unsigned char* packed_;
    std::int64_t tile_bytes_;
    unsigned char* buffers_;
    int pairs_, tile_, step_, end_;
    int pair_ = 0, filled_ = 0, used_ = 0;
};

}  // namespace cuda
}  // namespace seqrec_fast
