#include "base/aligned_buffer.h"

#include <algorithm>
#include <array>
#include <new>

#include "base/huge_pages.h"

namespace seqrec_fast {
namespace {

constexpr std::align_val_t kAlignment{kCacheLine};

// Blocks below this size come from pages that are in use anyway.
constexpr std::size_t kLeastKept = std::size_t{32} << 10;
constexpr std::size_t kMostKept = std::size_t{32} << 20;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeeps = false;  // what is used after it was given back must show
#else
constexpr bool kKeeps = true;
#endif

std::size_t rounded(std::size_t bytes) {
    constexpr std::size_t kPage = 4096;
    return bytes < kLeastKept ? bytes : (bytes + kPage - 1) / kPage * kPage;
}

// Buffers of other thread-local objects may come and go after those kept by the thread have ended.
thread_local bool t_closed = false;

// What this thread has given back, the oldest first.
class KeptBlocks {
  public:
    ~KeptBlocks() {
        t_closed = true;
        while (count_ > 0) {
            drop(0);
        }
    }

    void* take(std::size_t bytes) {
        for (std::size_t i = count_; i-- > 0;) {
            if (blocks_[i].bytes == bytes) {
                void* const found = blocks_[i].address;
                remove(i);
                return found;
            }
        }
        return nullptr;
    }

    bool keep(void* address, std::size_t bytes) {
        if (bytes > kMostKept) {
            return false;
        }
        while (count_ == blocks_.size() || total_ + bytes > kMostKept) {
            drop(0);
        }
        blocks_[count_++] = {address, bytes};
        total_ += bytes;
        return true;
    }

  private:
    struct Block {
        void* address;
        std::size_t bytes;
    };

    void remove(std::size_t i) {
        total_ -= blocks_[i].bytes;
        std::copy(blocks_.begin() + static_cast<std::ptrdiff_t>(i) + 1,
                  blocks_.begin() + static_cast<std::ptrdiff_t>(count_),
                  blocks_.begin() + static_cast<std::ptrdiff_t>(i));
        --count_;
    }
    void drop(std::size_t i) {
        ::operator delete(blocks_[i].address, kAlignment);
        remove(i);
    }

    std::array<Block, 64> blocks_{};
    std::size_t count_ = 0, total_ = 0;
};

KeptBlocks& kept_blocks() {
    thread_local KeptBlocks blocks;
    return blocks;
}

}  // namespace

void* take_block(std::size_t bytes) {
    const std::size_t size = rounded(bytes);
    if (kKeeps && !t_closed && size >= kLeastKept) {
        if (void* const kept = kept_blocks().take(size)) {
            return kept;
        }
    }
    void* const fresh = ::operator new(size, kAlignment);
    prefer_huge_pages(fresh, size);
    return fresh;
}

void give_block(void* block, std::size_t bytes) noexcept {
    const std::size_t size = rounded(bytes);
    if (block != nullptr && kKeeps && !t_closed && size >= kLeastKept &&
        kept_blocks().keep(block, size)) {
        return;
    }
    ::operator delete(block, kAlignment);
}

}  // namespace seqrec_fast
