// Writing the rows of a matrix past the caches where it would not stay in them.

// Per-target include guard
#if defined(SEQREC_CPU_ROW_WRITER_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_ROW_WRITER_INL_H_
#undef SEQREC_CPU_ROW_WRITER_INL_H_
#else
#define SEQREC_CPU_ROW_WRITER_INL_H_
#endif

#include "cpu/simd_math-inl.h"
#include "hwy/cache_control.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Writes vectors of a matrix of `rows` rows of `dim` values that nobody reads soon: past the caches
// if it is large, 1.1 ms in place of 1.5 for 16 MB. Whoever writes calls hwy::FlushStream() before
// other threads read.
template <class T>
class RowWriter {
  public:
    RowWriter(const T* to, std::int64_t rows, std::int64_t dim)
        : streams_(rows * dim * static_cast<std::int64_t>(sizeof(T)) > kMostCached &&
                   dim % lane_count<T>() == 0 &&
                   reinterpret_cast<std::uintptr_t>(to) % (lane_count<T>() * sizeof(T)) == 0) {}

    // The first `n` values of a vector, or all.
    HWY_INLINE void write(hn::Vec<Lanes<T>> v, T* to, std::int64_t n = lane_count<T>()) const {
        if (streams_) {
            hn::Stream(v, Lanes<T>(), to);
        } else {
            store_part(v, Lanes<T>(), to, n);
        }
    }

  private:
    static constexpr std::int64_t kMostCached = 4 << 20;
    bool streams_;
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
