// The sessions of a store: key -> slot, their states in one slab, the order of their last use.
#pragma once

#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/aligned_buffer.h"

namespace seqrec_fast {

// An integer or a text; 1 and "1" are different keys.
struct SessionKey {
    bool is_text = false;
    std::int64_t number = 0;
    std::string text;

    bool operator==(const SessionKey& other) const {
        return is_text == other.is_text && number == other.number && text == other.text;
    }
    struct Hash {
        std::size_t operator()(const SessionKey& key) const {
            return key.is_text ? std::hash<std::string>()(key.text)
                               : std::hash<std::int64_t>()(key.number) * 0x9E3779B97F4A7C15ULL;
        }
    };
};

class SessionSlots {
  public:
    static constexpr std::int64_t kNone = -1;

    // `width` float32 numbers per session, each on cache lines of its own; at most `capacity`
    // sessions, 0 for as many as come.
    SessionSlots(std::int64_t width, std::int64_t capacity);

    std::int64_t width() const { return width_; }
    std::int64_t capacity() const { return capacity_; }
    std::int64_t size() const { return static_cast<std::int64_t>(slot_of_.size()); }

    std::int64_t find(const SessionKey& key) const;  // kNone if there is no such session
    // The slot of a session, which becomes the last used one. A new session starts from zeros; if
    // there is no room, it takes the place of the one whose last use is longest ago.
    std::int64_t use(const SessionKey& key);
    void touch(std::int64_t slot);
    void erase(const SessionKey& key);
    void clear();

    float* state(std::int64_t slot) { return slab_.data() + slot * stride_; }
    std::vector<std::int64_t>& items(std::int64_t slot) { return at(slot).items; }
    const SessionKey& key(std::int64_t slot) const {
        return slots_[static_cast<std::size_t>(slot)].key;
    }
    // The sessions from the one used longest ago to the last used one.
    std::int64_t oldest() const { return oldest_; }
    std::int64_t next(std::int64_t slot) const {
        return slots_[static_cast<std::size_t>(slot)].newer;
    }

  private:
    struct Slot {
        SessionKey key;
        std::vector<std::int64_t> items;  // that the session has had
        std::int64_t older = kNone, newer = kNone;
    };
    Slot& at(std::int64_t slot) { return slots_[static_cast<std::size_t>(slot)]; }
    std::int64_t free_slot();
    void link_as_newest(std::int64_t slot);
    void unlink(std::int64_t slot);
    void grow();

    std::int64_t width_, stride_, capacity_;
    std::int64_t oldest_ = kNone, newest_ = kNone;
    AlignedBuffer<float> slab_;
    std::vector<Slot> slots_;
    std::vector<std::int64_t> free_;
    std::unordered_map<SessionKey, std::int64_t, SessionKey::Hash> slot_of_;
};

}  // namespace seqrec_fast
