// Memory aligned to a cache line, which is also the width of a packed vector (64 bytes).
#pragma once

#include <cstddef>
#include <cstring>
#include <new>
#include <utility>

namespace seqrec_fast {

constexpr std::size_t kCacheLine = 64;

// Owns `size` elements of a trivial type, not initialised; moves, never copies.
template <class T>
class AlignedBuffer {
  public:
    AlignedBuffer() = default;
    explicit AlignedBuffer(std::size_t size)
        : data_(static_cast<T*>(::operator new(size * sizeof(T), std::align_val_t(kCacheLine)))),
          size_(size) {}
    ~AlignedBuffer() { release(); }
    AlignedBuffer(AlignedBuffer&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
    AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
        if (this != &other) {
            release();
            data_ = std::exchange(other.data_, nullptr);
            size_ = std::exchange(other.size_, 0);
        }
        return *this;
    }
    AlignedBuffer(const AlignedBuffer&) = delete;
    AlignedBuffer& operator=(const AlignedBuffer&) = delete;

    T* data() { return data_; }
    const T* data() const { return data_; }
    std::size_t size() const { return size_; }
    void fill_zero() {
        if (size_ != 0) {
            std::memset(static_cast<void*>(data_), 0, size_ * sizeof(T));
        }
    }

  private:
    void release() noexcept { ::operator delete(data_, std::align_val_t(kCacheLine)); }

    T* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace seqrec_fast
