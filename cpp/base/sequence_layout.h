// Where the events of a batch of sessions lie in memory: one description for padded, ragged and
// packed input, so that every kernel is written once for all of them.
#pragma once

#include <cstdint>
#include <vector>

namespace seqrec_fast {

// Event t (0 = oldest) of session b is row `base[b] + step[t]` of the event matrices.
class SequenceLayout {
  public:
    // (T, B, *) tensors, or (B, T, *) with batch_first.
    static SequenceLayout padded(std::int64_t seq_len, std::int64_t batch, bool batch_first);
    // Session b holds rows offsets[b] .. offsets[b + 1] - 1. Throws std::invalid_argument unless
    // offsets start at 0, never decrease and end at n_events. `function` names the caller.
    static SequenceLayout ragged(const std::int64_t* offsets, std::int64_t batch,
                                 std::int64_t n_events, const char* function);
    // The same into an object that exists, whose memory is used again.
    void assign_ragged(const std::int64_t* offsets, std::int64_t batch, std::int64_t n_events,
                       const char* function);
    // PyTorch's PackedSequence: batch_sizes[t] sessions have an event t; they are sorted by length.
    static SequenceLayout packed(const std::int64_t* batch_sizes, std::int64_t seq_len,
                                 std::int64_t n_events, const char* function);

    std::int64_t batch() const { return static_cast<std::int64_t>(base_.size()); }
    std::int64_t n_events() const { return n_events_; }
    std::int64_t length(std::int64_t session) const { return length_[index(session)]; }
    std::int64_t longest() const { return batch() == 0 ? 0 : length(by_length_.front()); }
    std::int64_t row(std::int64_t session, std::int64_t t) const {
        return base_[index(session)] + step_[index(t)];
    }
    // Sessions by descending length (equal lengths in their own order): neighbours in a tile end
    // at nearly the same time, and those that are still running are always the first rows.
    const std::vector<std::int64_t>& by_length() const { return by_length_; }

  private:
    static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }
    void sort_by_length();

    std::vector<std::int64_t> base_, length_, step_, by_length_;
    std::int64_t n_events_ = 0;
};

}  // namespace seqrec_fast
