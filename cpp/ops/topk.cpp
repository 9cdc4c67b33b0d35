#include "ops/topk.h"

#include <algorithm>
#include <mutex>

namespace seqrec_fast {
namespace {

// A ragged list of global ids per query; `argument` is "exclude" or "allow".
void check_ids(const char* function, const char* argument, const PackedItems& items,
               std::int64_t n_queries, const MatrixView<const std::int64_t>& values,
               const MatrixView<const std::int64_t>& ragged) {
    if (ragged.present()) {
        const std::int64_t* const offsets = ragged.data;
        SEQREC_CHECK(ragged.rows == 1 && ragged.columns == n_queries + 1, function,
                     ": the offsets of ", argument, " have ", ragged.columns, " entries; expected ",
                     n_queries + 1, " for ", n_queries, " queries");
        SEQREC_CHECK(offsets[0] == 0, function, ": the offsets of ", argument, " start at ",
                     offsets[0], "; expected 0");
        for (std::int64_t q = 0; q < n_queries; ++q) {
            SEQREC_CHECK(offsets[q] <= offsets[q + 1], function, ": the offsets of ", argument,
                         " decrease from ", offsets[q], " to ", offsets[q + 1], " at index ",
                         q + 1);
        }
        SEQREC_CHECK(values.rows == 1 && offsets[n_queries] == values.columns, function,
                     ": the offsets of ", argument, " end at ", offsets[n_queries], "; expected ",
                     values.columns, ", the number of its values");
    }
    const auto is_wrong = [&](std::int64_t id) { return id < 0 || id >= items.n_ids; };
    const std::int64_t n = values.present() ? values.columns : 0;
    // Counted, which is many times as fast as stopping at the first.
    if (std::count_if(values.data, values.data + n, is_wrong) > 0) {
        const std::int64_t* const wrong = std::find_if(values.data, values.data + n, is_wrong);
        SEQREC_CHECK(false, function, ": ", argument, " holds the id ", *wrong, " at index ",
                     wrong - values.data, "; expected ids from 0 to ", items.n_ids - 1);
    }
}

ExcludedIds exclusions(const MatrixView<const std::int64_t>& values,
                       const MatrixView<const std::int64_t>& offsets) {
    return values.present() && values.columns > 0 ? ExcludedIds{values.data, offsets.data}
                                                  : ExcludedIds();
}

}  // namespace

void ItemCatalogue::write(const char* function, const ItemStorage& storage,
                          const MatrixView<const std::int64_t>& positions,
                          const MatrixView<const std::int64_t>& sources,
                          const MatrixView<const float>& rows, const MatrixView<const float>& bias,
                          std::int64_t n_items) {
    SEQREC_CHECK(n_items >= 0 && n_items <= capacity_, function, ": n_items is ", n_items,
                 "; expected 0 to ", capacity_);
    check_shape(function, "rows", rows, rows.rows, items_.dim);
    check_shape(function, "sources", sources, 1, positions.columns);
    check_shape(function, "bias", bias, 1, rows.rows);
    for (std::int64_t i = 0; i < positions.columns; ++i) {
        const std::int64_t position = positions.data[i], source = sources.data[i];
        SEQREC_CHECK(position > (i == 0 ? -1 : positions.data[i - 1]) && position < n_items,
                     function, ": position ", position, " at index ", i,
                     "; expected ascending ones below ", n_items);
        SEQREC_CHECK(source >= 0 && source < rows.rows, function, ": source ", source, " at index ",
                     i, "; expected 0 to ", rows.rows - 1);
    }
    const std::unique_lock<std::shared_mutex> lock(mutex_);
    items_.n_items = n_items;
    items_.n_ids = std::max(items_.n_ids, items_.id_offset + n_items);
    write_items(items_, storage,
                {positions.data, sources.data, positions.columns, rows.data, bias.data});
}

void topk(const char* function, const Topk& call) {
    const auto reading = call.catalogue->reading();
    const PackedItems& items = call.catalogue->items();
    const std::int64_t n_queries = call.queries.rows;
    SEQREC_CHECK(call.k >= 1, function, ": k is ", call.k, "; expected at least 1");
    check_shape(function, "queries", call.queries, n_queries, items.dim);
    check_shape(function, "scores", call.scores, n_queries, call.k);
    check_shape(function, "ids", call.ids, n_queries, call.k);
    if (call.exclude_offsets.present()) {
        check_ids(function, "exclude", items, n_queries, call.excluded, call.exclude_offsets);
    }
    check_ids(function, "allow", items, n_queries, call.allowed, call.allowed_offsets);
    const MatrixView<const std::uint64_t>& bits = call.allowed_bits;
    if (bits.present()) {
        check_shape(function, "allow", bits, bits.rows == 1 ? 1 : n_queries,
                    (items.n_items + 63) / 64);
    }
    topk_cpu({&items,
              call.queries.data,
              n_queries,
              call.k,
              exclusions(call.excluded, call.exclude_offsets),
              {bits.data, bits.rows == 1 ? 0 : bits.columns, call.allowed.data,
               call.allowed_offsets.data, call.allowed.columns},
              call.scores.data,
              call.ids.data,
              &call.catalogue->statistics()});
}

void ranks(const char* function, const Ranks& call) {
    const auto reading = call.catalogue->reading();
    const PackedItems& items = call.catalogue->items();
    const std::int64_t n_queries = call.queries.rows;
    check_shape(function, "queries", call.queries, n_queries, items.dim);
    check_shape(function, "ids", call.targets, 1, n_queries);
    check_shape(function, "greater", call.greater, 1, n_queries);
    check_shape(function, "equal", call.equal, 1, n_queries);
    check_shape(function, "before", call.before, 1, n_queries);
    if (call.exclude_offsets.present()) {
        check_ids(function, "exclude", items, n_queries, call.excluded, call.exclude_offsets);
    }
    for (std::int64_t q = 0; q < n_queries; ++q) {
        const std::int64_t id = call.targets.data[q] - items.id_offset;
        SEQREC_CHECK(id >= 0 && id < items.n_items, function, ": ids[", q, "] is ",
                     call.targets.data[q], "; expected ", items.id_offset, " to ",
                     items.id_offset + items.n_items - 1);
    }
    rank_cpu({&items, call.queries.data, n_queries, call.targets.data,
              exclusions(call.excluded, call.exclude_offsets), call.greater.data, call.equal.data,
              call.before.data});
}

}  // namespace seqrec_fast
