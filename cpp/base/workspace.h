// Scratch memory of one thread, kept between calls so that no step allocates.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/aligned_buffer.h"

namespace seqrec_fast {

// Hands out aligned pieces of one buffer. Usage: `reserve` once with the bytes of all pieces
// (`bytes_for` each), then `take` them. A piece is valid until the next `reserve`.
class Workspace {
  public:
    template <class T>
    static std::size_t bytes_for(std::int64_t n) {
        const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(T);
        return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
    }
    void reserve(std::size_t bytes) {
        if (buffer_.size() < bytes) {
            buffer_ = AlignedBuffer<std::byte>(bytes);
        }
        used_ = 0;
    }
    template <class T>
    T* take(std::int64_t n) {
        T* piece = reinterpret_cast<T*>(buffer_.data() + used_);
        used_ += bytes_for<T>(n);
        return piece;
    }

  private:
    AlignedBuffer<std::byte> buffer_;
    std::size_t used_ = 0;
};

inline Workspace& thread_workspace() {
    thread_local Workspace workspace;
    return workspace;
}

}  // namespace seqrec_fast
