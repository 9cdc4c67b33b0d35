#include "ops/session_store.h"

#include <algorithm>
#include <unordered_set>
#include <utility>

namespace seqrec_fast {
namespace {

std::size_t index(std::int64_t i) {
    return static_cast<std::size_t>(i);
}

constexpr const char* kPush = "SessionStore.push";

}  // namespace

template <class T>
SessionStore<T>::SessionStore(std::vector<const PackedRnn<T>*> layers,
                              const MatrixView<const T>& inputs, bool are_gates,
                              std::int64_t capacity)
    : layers_(std::move(layers)),
      inputs_(inputs),
      are_gates_(are_gates),
      lstm_(layers_.front()->kind == CellKind::lstm),
      hidden_size_(layers_.front()->hidden_size),
      slots_(static_cast<std::int64_t>(layers_.size()) * (lstm_ ? 2 : 1) * hidden_size_, capacity) {
    SEQREC_CHECK(capacity >= 0, "SessionStore: capacity is ", capacity,
                 "; expected 1 or more, or 0 for no limit");
}

template <class T>
void SessionStore<T>::push(const std::vector<SessionKey>& keys, const std::int64_t* items) {
    const auto n = static_cast<std::int64_t>(keys.size());
    std::int64_t known = 0;
    for (std::int64_t i = 0; i < n; ++i) {
        SEQREC_CHECK(items[i] >= -1 && items[i] < inputs_.rows, kPush, ": items[", i, "] is ",
                     items[i], "; expected 0 to ", inputs_.rows - 1);
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
        advance(groups_, ordered_, offsets_);
    }
}

template <class T>
void SessionStore<T>::advance(const std::vector<std::int64_t>& slots,
                              const std::vector<std::int64_t>& items,
                              const std::vector<std::int64_t>& offsets) {
    const auto batch = static_cast<std::int64_t>(slots.size());
    const auto events = static_cast<std::int64_t>(items.size());
    const SequenceLayout layout = SequenceLayout::ragged(offsets.data(), batch, events, kPush);
    const std::int64_t states = batch * hidden_size_, outputs = events * hidden_size_;
    workspace_.reserve(4 * Workspace::bytes_for<T>(states) + 2 * Workspace::bytes_for<T>(outputs));
    T* const h_0 = workspace_.take<T>(states);
    T* const c_0 = workspace_.take<T>(states);
    T* const h_n = workspace_.take<T>(states);
    T* const c_n = workspace_.take<T>(states);
    T* below = workspace_.take<T>(outputs);
    T* above = workspace_.take<T>(outputs);
    const auto states_view = [&](auto* data) {
        return MatrixView<std::remove_reference_t<decltype(*data)>>{data, batch, hidden_size_,
                                                                    hidden_size_};
    };
    const auto n_layers = static_cast<std::int64_t>(layers_.size());
    for (std::int64_t layer = 0; layer < n_layers; ++layer) {
        const std::int64_t h_at = layer * hidden_size_, c_at = (n_layers + layer) * hidden_size_;
        for (std::int64_t b = 0; b < batch; ++b) {
            const float* state = slots_.state(slots[index(b)]);
            std::copy_n(state + h_at, hidden_size_, h_0 + b * hidden_size_);
            if (lstm_) {
                std::copy_n(state + c_at, hidden_size_, c_0 + b * hidden_size_);
            }
        }
        RnnForward<T> call;
        call.weights = layers_[index(layer)];
        call.layout = &layout;
        if (layer == 0) {
            (are_gates_ ? call.gate_table : call.x) = inputs_;
            call.ids = {items.data(), 1, events, events};
        } else {
            call.x = {below, events, hidden_size_, hidden_size_};
        }
        call.h_0 = states_view(static_cast<const T*>(h_0));
        call.h_n = states_view(h_n);
        if (lstm_) {
            call.c_0 = states_view(static_cast<const T*>(c_0));
            call.c_n = states_view(c_n);
        }
        if (layer + 1 < n_layers) {
            call.y = {above, events, hidden_size_, hidden_size_};
        }
        rnn_forward(kPush, call);
        std::swap(below, above);
        for (std::int64_t b = 0; b < batch; ++b) {
            float* state = slots_.state(slots[index(b)]);
            const auto narrow = [](T value) { return static_cast<float>(value); };
            std::transform(h_n + b * hidden_size_, h_n + (b + 1) * hidden_size_, state + h_at,
                           narrow);
            if (lstm_) {
                std::transform(c_n + b * hidden_size_, c_n + (b + 1) * hidden_size_, state + c_at,
                               narrow);
            }
        }
    }
}

template <class T>
void SessionStore<T>::recommend(const std::vector<SessionKey>& keys, const PackedItems& items,
                                std::int64_t k, bool exclude_seen, const MatrixView<float>& scores,
                                const MatrixView<std::int64_t>& ids) {
    const auto n = static_cast<std::int64_t>(keys.size());
    std::vector<float> queries(index(n * hidden_size_));
    std::vector<std::int64_t> seen, offsets{0};
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const std::int64_t top = (static_cast<std::int64_t>(layers_.size()) - 1) * hidden_size_;
        for (std::int64_t i = 0; i < n; ++i) {
            const std::int64_t slot = slots_.find(keys[index(i)]);
            if (slot != SessionSlots::kNone) {
                slots_.touch(slot);
                std::copy_n(slots_.state(slot) + top, hidden_size_,
                            queries.data() + i * hidden_size_);
                if (exclude_seen) {
                    const auto& had = slots_.items(slot);
                    seen.insert(seen.end(), had.begin(), had.end());
                }
            }
            offsets.push_back(static_cast<std::int64_t>(seen.size()));
        }
    }
    Topk call;
    call.items = &items;
    call.queries = {queries.data(), n, hidden_size_, hidden_size_};
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
