// Memory aligned to a cache line, which is also the width of a packed vector (64 bytes).
#pragma once

#include <cstddef>
#include <cstring>
#include <utility>

namespace seqrec_fast {

constexpr std::size_t kCacheLine = 64;

// Memory aligned to kCacheLine. A thread keeps some large blocks that it gave back: a training step
// that asks for the same sizes again would else spend a tenth of its time on fresh pages.
void* take_block(std::size_t bytes);
void give_block(void* block, std::size_t bytes) noexcept;

// Owns `size` elements of a trivial type, not initialised; moves, never copies.
template <class T>
class AlignedBuffer {
  public:
    AlignedBuffer() = default;
    explicit AlignedBuffer(std::size_t size)
        : data_(static_cast<T*>(take_block(size * sizeof(T)))), size_(size) {}
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
    void release() noexcept { give_block(data_, size_ * sizeof(T)); }

    T* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace seqrec_fast
