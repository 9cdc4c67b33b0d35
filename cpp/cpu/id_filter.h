// Which ids a query may be given; asked only for items that would be in the answer.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/topk_kernels.h"

namespace seqrec_fast {

// A set of ids by open addressing, at most half full: one cache line per question.
class IdSet {
  public:
    // Global ids; those outside the slice are left out.
    void assign(const std::int64_t* begin, const std::int64_t* end, const PackedItems& items) {
        int bits = 1;
        while ((std::int64_t{1} << bits) < 2 * (end - begin)) {
            ++bits;
        }
        shift_ = 32 - bits;
        slots_.assign(begin == end ? 0 : std::size_t{1} << bits, kEmpty);
        for (; begin != end; ++begin) {
            const std::int64_t id = *begin - items.id_offset;
            if (id >= 0 && id < items.n_items) {
                insert(static_cast<std::uint32_t>(id));
            }
        }
    }
    bool contains(std::uint32_t id) const {
        if (slots_.empty()) {
            return false;
        }
        for (std::size_t at = place(id);; at = next(at)) {
            if (slots_[at] == id) {
                return true;
            }
            if (slots_[at] == kEmpty) {
                return false;
            }
        }
    }
    // Each id once.
    template <class Visit>
    void each(const Visit& visit) const {
        for (const std::uint32_t id : slots_) {
            if (id != kEmpty) {
                visit(id);
            }
        }
    }

  private:
    static constexpr std::uint32_t kEmpty = 0xffffffffU;  // ids are below 2^31

    std::size_t place(std::uint32_t id) const { return (id * 0x9E3779B1U) >> shift_; }
    std::size_t next(std::size_t at) const { return (at + 1) & (slots_.size() - 1); }
    void insert(std::uint32_t id) {
        std::size_t at = place(id);
        while (slots_[at] != kEmpty && slots_[at] != id) {
            at = next(at);
        }
        slots_[at] = id;
    }

    std::vector<std::uint32_t> slots_;
    int shift_ = 31;
};

// The filters of a tile of queries, in memory that the thread keeps.
class IdFilters {
  public:
    void assign(const PackedItems& items, const ExcludedIds& excluded, const AllowedIds& allowed,
                std::int64_t first_query, std::int64_t n_rows) {
        allowed_ = allowed.bits == nullptr ? nullptr : allowed.bits + first_query * allowed.words;
        words_ = allowed.words;
        has_excluded_ = excluded.offsets != nullptr;
        if (!has_excluded_) {
            return;
        }
        if (excluded_.size() < static_cast<std::size_t>(n_rows)) {
            excluded_.resize(static_cast<std::size_t>(n_rows));
        }
        for (std::int64_t r = 0; r < n_rows; ++r) {
            const std::int64_t* const offsets = excluded.offsets + first_query + r;
            excluded_[static_cast<std::size_t>(r)].assign(excluded.values + offsets[0],
                                                          excluded.values + offsets[1], items);
        }
    }
    bool passes(std::int64_t row, std::uint32_t id) const {
        if (allowed_ != nullptr && ((allowed_[row * words_ + id / 64] >> (id % 64)) & 1) == 0) {
            return false;
        }
        return !has_excluded_ || !excluded(row).contains(id);
    }
    const IdSet& excluded(std::int64_t row) const {
        return excluded_[static_cast<std::size_t>(row)];
    }

  private:
    const std::uint64_t* allowed_ = nullptr;
    std::int64_t words_ = 0;
    bool has_excluded_ = false;
    std::vector<IdSet> excluded_;
};

}  // namespace seqrec_fast
