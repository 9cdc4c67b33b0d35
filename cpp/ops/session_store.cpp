#include "ops/session_store.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

#include "base/parallel.h"

namespace seqrec_fast {
namespace {

std::size_t index(std::int64_t i) {
    return static_cast<std::size_t>(i);
}

constexpr const char* kPush = "SessionStore.push";

}  // namespace

template <class T>
SessionStore<T>::SessionStore(const RnnStack<T>* stack, std::int64_t capacity)
    : stack_(stack),
      slots_(static_cast<std::int64_t>(stack->layers.size()) * (stack->is_lstm() ? 2 : 1) *
                 stack->hidden_size(),
             capacity) {
    SEQREC_CHECK(capacity >= 0, "SessionStore: capacity is ", capacity,
                 "; expected 1 or more, or 0 for no limit");
    SEQREC_CHECK(
        stack->takes_ids() && stack->directions == 1 && stack->state_size() == stack->hidden_size(),
        "SessionStore: the layers cannot go on event by event; expected layers of one "
        "direction, without projection, that take item ids");
}

template <class T>
void SessionStore<T>::push(const std::vector<SessionKey>& keys, const std::int64_t* items) {
    const auto n = static_cast<std::int64_t>(keys.size());
    std::int64_t known = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        SEQREC_CHECK(items[i] >= -1 && items[i] < stack_->n_items(), kPush, ": items[", i, "] is ",
                     items[i], "; expected 0 to ", stack_->n_items() - 1);
        known += items[i] >= 0 ? 1 : 0;
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    if (slots_.capacity() > 0 && known > slots_.capacity()) {
        std::unordered_set<SessionKey, SessionKey::Hash> distinct;
        for (std::int64_t i = 0; i < n; ++i) {
            if (items[i] >= 0) {
                distinct.insert(keys[index(i)]);
            }
        }
        SEQREC_CHECK(static_cast<std::int64_t>(distinct.size()) <= slots_.capacity(), kPush, ": ",
                     distinct.size(), " sessions in one call; expected at most the capacity, ",
                     slots_.capacity());
    }
    // Sessions in the order of their first event; their events in their own order.
    event_slots_.resize(index(n));
    groups_.clear();
    offsets_.clear();
    for (std::int64_t i = 0; i < n; ++i) {
        if (items[i] < 0) {
            event_slots_[index(i)] = SessionSlots::kNone;
            continue;
        }
        const std::int64_t slot = slots_.use(keys[index(i)]);
        event_slots_[index(i)] = slot;
        if (slot >= static_cast<std::int64_t>(group_of_slot_.size())) {
            group_of_slot_.resize(index(slot + 1 + slot / 2), SessionSlots::kNone);
        }
        std::int64_t& group = group_of_slot_[index(slot)];
        if (group == SessionSlots::kNone) {
            group = static_cast<std::int64_t>(groups_.size());
            groups_.push_back(slot);
            offsets_.push_back(0);
        }
        ++offsets_[index(group)];
    }
    std::int64_t end = 0;
    for (std::int64_t& count : offsets_) {
        end += std::exchange(count, end);
    }
    offsets_.push_back(end);
    ordered_.resize(index(known));
    for (std::int64_t i = 0; i < n; ++i) {
        const std::int64_t slot = event_slots_[index(i)];
        if (slot != SessionSlots::kNone) {
            ordered_[index(offsets_[index(group_of_slot_[index(slot)])]++)] = items[i];
            slots_.items(slot).push_back(items[i]);
        }
    }
    // Each offset has moved to the end of its session, the beginning of the next.
    for (std::size_t group = groups_.size(); group-- > 0;) {
        group_of_slot_[index(groups_[group])] = SessionSlots::kNone;
        offsets_[group] = group == 0 ? 0 : offsets_[group - 1];
    }
    if (known > 0) {
        advance();
    }
}

template <class T>
void SessionStore<T>::advance() {
    // Few enough sessions at a time that their states stay in L2 on the way there and back.
    constexpr std::int64_t kSessionsPerThread = 144;
    const auto batch = static_cast<std::int64_t>(groups_.size());
    const std::int64_t most = kSessionsPerThread * num_threads();
    const std::int64_t parts = (batch + most - 1) / most;
    const std::int64_t share = (batch + parts - 1) / parts;
    for (std::int64_t first = 0; first < batch; first += share) {
        advance_sessions(first, std::min(share, batch - first));
    }
}

template <class T>
void SessionStore<T>::advance_sessions(std::int64_t first, std::int64_t batch) {
    const std::int64_t* const slots = groups_.data() + first;
    const std::int64_t first_event = offsets_[index(first)];
    const std::int64_t events = offsets_[index(first + batch)] - first_event;
    const std::int64_t* const items = ordered_.data() + first_event;
    part_offsets_.resize(index(batch + 1));
    std::transform(offsets_.data() + first, offsets_.data() + first + batch + 1,
                   part_offsets_.data(), [&](std::int64_t at) { return at - first_event; });
    layout_.assign_ragged(part_offsets_.data(), batch, events, kPush);
    // The slab has per session the h of all layers, then the c; the stack wants layer after layer.
    const std::int64_t hidden = stack_->hidden_size();
    const auto layers = static_cast<std::int64_t>(stack_->layers.size());
    const std::int64_t size = layers * batch * hidden;
    workspace_.reserve(4 * Workspace::bytes_for<T>(size));
    T* const before[2] = {workspace_.take<T>(size), workspace_.take<T>(size)};
    T* const after[2] = {workspace_.take<T>(size), workspace_.take<T>(size)};
    const auto each_state = [&](const auto& visit) {
        for (std::int64_t kind = 0; kind < (stack_->is_lstm() ? 2 : 1); ++kind) {
            for (std::int64_t layer = 0; layer < layers; ++layer) {
                for (std::int64_t b = 0; b < batch; ++b) {
                    visit(kind, (layer * batch + b) * hidden,
                          slots_.state(slots[b]) + (kind * layers + layer) * hidden);
                }
            }
        }
    };
    each_state([&](std::int64_t kind, std::int64_t at, const float* state) {
        std::copy_n(state, hidden, before[kind] + at);
    });
    RnnStackRun<T> run;
    run.layout = &layout_;
    run.ids = {items, 1, events, events};
    run.h_0 = {before[0], layers * batch, hidden, hidden};
    run.h_n = {after[0], layers * batch, hidden, hidden};
    if (stack_->is_lstm()) {
        run.c_0 = {before[1], layers * batch, hidden, hidden};
        run.c_n = {after[1], layers * batch, hidden, hidden};
    }
    rnn_stack(kPush, *stack_, run);
    each_state([&](std::int64_t kind, std::int64_t at, float* state) {
        std::transform(after[kind] + at, after[kind] + at + hidden, state,
                       [](T value) { return static_cast<float>(value); });
    });
}

template <class T>
void SessionStore<T>::recommend(const std::vector<SessionKey>& keys, const ItemCatalogue& items,
                                std::int64_t k, bool exclude_seen, const MatrixView<float>& scores,
                                const MatrixView<std::int64_t>& ids) {
    const auto n = static_cast<std::int64_t>(keys.size());
    const std::int64_t hidden = stack_->hidden_size();
    thread_local std::vector<float> queries;
    thread_local std::vector<std::int64_t> seen, offsets;
    queries.assign(index(n * hidden), 0.0F);
    seen.clear();
    offsets.assign(1, 0);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const std::int64_t top = (static_cast<std::int64_t>(stack_->layers.size()) - 1) * hidden;
        for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t slot = slots_.find(keys[index(i)]);
            if (slot != SessionSlots::kNone) {
                slots_.touch(slot);
                std::copy_n(slots_.state(slot) + top, hidden, queries.data() + i * hidden);
                if (exclude_seen) {
                    const auto& had = slots_.items(slot);
                    seen.insert(seen.end(), had.begin(), had.end());
                }
            }
            offsets.push_back(static_cast<std::int64_t>(seen.size()));
        }
    }
    Topk call;
    call.catalogue = &items;
    call.queries = {queries.data(), n, hidden, hidden};
    call.k = k;
    if (!seen.empty()) {
        const auto n_seen = static_cast<std::int64_t>(seen.size());
        call.excluded = {seen.data(), 1, n_seen, n_seen};
        call.exclude_offsets = {offsets.data(), 1, n + 1, n + 1};
    }
    call.scores = scores;
    call.ids = ids;
    topk("SessionStore.recommend", call);
}

template <class T>
void SessionStore<T>::forget(const std::vector<SessionKey>& keys) {
    const std::lock_guard<std::mutex> lock(mutex_);
    for (const SessionKey& key : keys) {
        slots_.erase(key);
    }
}

template <class T>
bool SessionStore<T>::contains(const SessionKey& key) {
    const std::lock_guard<std::mutex> lock(mutex_);
    return slots_.find(key) != SessionSlots::kNone;
}

template <class T>
std::int64_t SessionStore<T>::size() {
    const std::lock_guard<std::mutex> lock(mutex_);
    return slots_.size();
}

template <class T>
typename SessionStore<T>::Contents SessionStore<T>::contents() {
    const std::lock_guard<std::mutex> lock(mutex_);
    Contents all;
    all.offsets.push_back(0);
    for (std::int64_t slot = slots_.oldest(); slot != SessionSlots::kNone;
         slot = slots_.next(slot)) {
        all.keys.push_back(slots_.key(slot));
        all.states.insert(all.states.end(), slots_.state(slot),
                          slots_.state(slot) + slots_.width());
        all.items.insert(all.items.end(), slots_.items(slot).begin(), slots_.items(slot).end());
        all.offsets.push_back(static_cast<std::int64_t>(all.items.size()));
    }
    return all;
}

template <class T>
void SessionStore<T>::replace(const Contents& all) {
    const std::lock_guard<std::mutex> lock(mutex_);
    slots_.clear();
    for (std::size_t i = 0; i < all.keys.size(); ++i) {
        const std::int64_t slot = slots_.use(all.keys[i]);
        const auto width = slots_.width();
        std::copy_n(all.states.data() + static_cast<std::int64_t>(i) * width, width,
                    slots_.state(slot));
        slots_.items(slot).assign(all.items.begin() + all.offsets[i],
                                  all.items.begin() + all.offsets[i + 1]);
    }
}

template class SessionStore<float>;
template class SessionStore<double>;

}  // namespace seqrec_fast
