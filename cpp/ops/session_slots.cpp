#include "ops/session_slots.h"

#include <algorithm>
#include <utility>

namespace seqrec_fast {

SessionSlots::SessionSlots(std::int64_t width, std::int64_t capacity)
    : width_(width),
      stride_((width * static_cast<std::int64_t>(sizeof(float)) + 63) / 64 * 16),
      capacity_(capacity) {}

std::int64_t SessionSlots::find(const SessionKey& key) const {
    const auto found = slot_of_.find(key);
    return found == slot_of_.end() ? kNone : found->second;
}

std::int64_t SessionSlots::use(const SessionKey& key) {
    std::int64_t slot = find(key);
    if (slot != kNone) {
        touch(slot);
        return slot;
    }
    slot = free_slot();
    slot_of_.emplace(key, slot);
    at(slot).key = key;
    at(slot).items.clear();
    std::fill_n(state(slot), width_, 0.0F);
    link_as_newest(slot);
    return slot;
}

void SessionSlots::touch(std::int64_t slot) {
    if (slot != newest_) {
        unlink(slot);
        link_as_newest(slot);
    }
}

void SessionSlots::erase(const SessionKey& key) {
    const std::int64_t slot = find(key);
    if (slot != kNone) {
        unlink(slot);
        slot_of_.erase(key);
        at(slot) = Slot();
        free_.push_back(slot);
    }
}

void SessionSlots::clear() {
    while (oldest_ != kNone) {
        erase(SessionKey(key(oldest_)));
    }
}

std::int64_t SessionSlots::free_slot() {
    if (capacity_ > 0 && size() == capacity_) {
        erase(SessionKey(key(oldest_)));
    }
    if (free_.empty()) {
        grow();
    }
    const std::int64_t slot = free_.back();
    free_.pop_back();
    return slot;
}

void SessionSlots::link_as_newest(std::int64_t slot) {
    at(slot).older = newest_;
    at(slot).newer = kNone;
    (newest_ == kNone ? oldest_ : at(newest_).newer) = slot;
    newest_ = slot;
}

void SessionSlots::unlink(std::int64_t slot) {
    const Slot& s = at(slot);
    (s.older == kNone ? oldest_ : at(s.older).newer) = s.newer;
    (s.newer == kNone ? newest_ : at(s.newer).older) = s.older;
}

void SessionSlots::grow() {
    const auto before = static_cast<std::int64_t>(slots_.size());
    std::int64_t after = std::max<std::int64_t>(16, 2 * before);
    if (capacity_ > 0) {
        after = std::min(after, capacity_);
    }
    AlignedBuffer<float> slab(static_cast<std::size_t>(after * stride_));
    std::copy_n(slab_.data(), before * stride_, slab.data());
    slots_.resize(static_cast<std::size_t>(after));
    free_.reserve(static_cast<std::size_t>(after));
    slab_ = std::move(slab);
    for (std::int64_t slot = after; slot-- > before;) {
        free_.push_back(slot);
    }
}

}  // namespace seqrec_fast
