// Sessions that go on: each event of each session costs one step of the recurrent layers.
#pragma once

#include <cstdint>
#include <mutex>
#include <vector>

#include "base/workspace.h"
#include "ops/rnn_stack.h"
#include "ops/session_slots.h"
#include "ops/topk.h"

namespace seqrec_fast {

// Thread-safe. T is the arithmetic's type; states are kept in float32.
template <class T>
class SessionStore {
  public:
    // Layers of one direction that take item ids; `stack` must outlive the store.
    SessionStore(const RnnStack<T>* stack, std::int64_t capacity);

    // Adds event i, of item items[i], to the session keys[i]; events of one session are applied in
    // their order. An item of -1 is none: its event is left out, and begins no session. Throws
    // std::invalid_argument, with nothing done, if an item does not exist or there are more
    // sessions than the capacity.
    void push(const std::vector<SessionKey>& keys, const std::int64_t* items);
    // The best k items for each key; one without a session is answered from the initial state.
    void recommend(const std::vector<SessionKey>& keys, const ItemCatalogue& items, std::int64_t k,
                   bool exclude_seen, const MatrixView<float>& scores,
                   const MatrixView<std::int64_t>& ids);
    void forget(const std::vector<SessionKey>& keys);
    bool contains(const SessionKey& key);
    std::int64_t size();
    std::int64_t capacity() const { return slots_.capacity(); }
    std::int64_t width() const { return slots_.width(); }

    // All sessions, from the one used longest ago: for saving and restoring.
    struct Contents {
        std::vector<SessionKey> keys;
        std::vector<float> states;          // (sessions, width)
        std::vector<std::int64_t> offsets;  // (sessions + 1) into items
        std::vector<std::int64_t> items;
    };
    Contents contents();
    // Replaces all sessions. The sizes must fit each other; the oldest beyond the capacity go.
    void replace(const Contents& contents);

  private:
    // The events of one push: groups_ are the slots of its sessions, whose items are those of
    // ordered_ between offsets_.
    void advance();
    void advance_sessions(std::int64_t first, std::int64_t batch);

    std::mutex mutex_;
    const RnnStack<T>* stack_;
    SessionSlots slots_;
    Workspace workspace_;
    // Of one push; kept so that an event allocates nothing.
    SequenceLayout layout_;
    std::vector<std::int64_t> event_slots_, group_of_slot_, groups_, offsets_, ordered_,
        part_offsets_;
};

}  // namespace seqrec_fast
