#include "base/sequence_layout.h"

#include <algorithm>
#include <numeric>

#include "base/check.h"

namespace seqrec_fast {

SequenceLayout SequenceLayout::padded(std::int64_t seq_len, std::int64_t batch, bool batch_first) {
    SequenceLayout layout;
    layout.n_events_ = seq_len * batch;
    layout.base_.resize(index(batch));
    layout.step_.resize(index(seq_len));
    layout.length_.assign(index(batch), seq_len);
    for (std::int64_t b = 0; b < batch; ++b) {
        layout.base_[index(b)] = batch_first ? b * seq_len : b;
    }
    for (std::int64_t t = 0; t < seq_len; ++t) {
        layout.step_[index(t)] = batch_first ? t : t * batch;
    }
    layout.by_length_.resize(index(batch));
    std::iota(layout.by_length_.begin(), layout.by_length_.end(), 0);
    return layout;
}

SequenceLayout SequenceLayout::ragged(const std::int64_t* offsets, std::int64_t batch,
                                      std::int64_t n_events, const char* function) {
    SequenceLayout layout;
    layout.assign_ragged(offsets, batch, n_events, function);
    return layout;
}

void SequenceLayout::assign_ragged(const std::int64_t* offsets, std::int64_t batch,
                                   std::int64_t n_events, const char* function) {
    SEQREC_CHECK(offsets[0] == 0, function, ": offsets[0] is ", offsets[0], "; expected 0");
    for (std::int64_t b = 0; b < batch; ++b) {
        SEQREC_CHECK(offsets[b] <= offsets[b + 1], function, ": offsets decrease from ", offsets[b],
                     " to ", offsets[b + 1], " at index ", b + 1);
    }
    SEQREC_CHECK(offsets[batch] == n_events, function, ": offsets end at ", offsets[batch],
                 "; expected ", n_events, ", the number of events");
    n_events_ = n_events;
    base_.assign(offsets, offsets + batch);
    length_.resize(index(batch));
    std::int64_t longest = 0;
    for (std::int64_t b = 0; b < batch; ++b) {
        length_[index(b)] = offsets[b + 1] - offsets[b];
        longest = std::max(longest, length_[index(b)]);
    }
    step_.resize(index(longest));
    std::iota(step_.begin(), step_.end(), 0);
    sort_by_length();
}

SequenceLayout SequenceLayout::packed(const std::int64_t* batch_sizes, std::int64_t seq_len,
                                      std::int64_t n_events, const char* function) {
    SEQREC_CHECK(seq_len > 0, function, ": batch_sizes is empty; expected one entry per step");
    SequenceLayout layout;
    const std::int64_t batch = batch_sizes[0];
    layout.base_.resize(index(std::max<std::int64_t>(batch, 0)));
    std::iota(layout.base_.begin(), layout.base_.end(), 0);
    layout.length_.assign(layout.base_.size(), 0);
    layout.step_.resize(index(seq_len));
    for (std::int64_t t = 0; t < seq_len; ++t) {
        const std::int64_t size = batch_sizes[t];
        SEQREC_CHECK(size > 0 && size <= (t == 0 ? batch : batch_sizes[t - 1]), function,
                     ": batch_sizes[", t, "] is ", size,
                     "; expected positive numbers that never increase");
        layout.step_[index(t)] = layout.n_events_;
        layout.n_events_ += size;
        for (std::int64_t b = 0; b < size; ++b) {
            layout.length_[index(b)] = t + 1;
        }
    }
    SEQREC_CHECK(layout.n_events_ == n_events, function, ": batch_sizes sum to ", layout.n_events_,
                 "; expected ", n_events, ", the number of events");
    layout.sort_by_length();
    return layout;
}

void SequenceLayout::sort_by_length() {
    by_length_.resize(base_.size());
    std::iota(by_length_.begin(), by_length_.end(), 0);
    if (by_length_.size() < 2) {
        return;  // a stable sort allocates
    }
    std::stable_sort(by_length_.begin(), by_length_.end(), [this](std::int64_t a, std::int64_t b) {
        return length_[index(a)] > length_[index(b)];
    });
}

}  // namespace seqrec_fast
