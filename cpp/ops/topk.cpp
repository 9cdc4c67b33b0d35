#include "ops/topk.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "base/parallel.h"
#include "cpu/topk_kernels.h"

namespace seqrec_fast {
namespace {

void check_exclusions(const char* function, const Topk& call) {
    const std::int64_t n_queries = call.queries.rows, n_items = call.items->n_items();
    const std::int64_t* const offsets = call.exclude_offsets.data;
    SEQREC_CHECK(call.exclude_offsets.rows == 1 && call.exclude_offsets.columns == n_queries + 1,
                 function, ": the offsets of exclude have ", call.exclude_offsets.columns,
                 " entries; expected ", n_queries + 1, " for ", n_queries, " queries");
    SEQREC_CHECK(offsets[0] == 0, function, ": the offsets of exclude start at ", offsets[0],
                 "; expected 0");
    for (std::int64_t q = 0; q < n_queries; ++q) {
        SEQREC_CHECK(offsets[q] <= offsets[q + 1], function,
                     ": the offsets of exclude decrease from ", offsets[q], " to ", offsets[q + 1],
                     " at index ", q + 1);
    }
    SEQREC_CHECK(call.excluded.rows == 1 && offsets[n_queries] == call.excluded.columns, function,
                 ": the offsets of exclude end at ", offsets[n_queries], "; expected ",
                 call.excluded.columns, ", the number of its values");
    for (std::int64_t i = 0; i < call.excluded.columns; ++i) {
        const std::int64_t id = call.excluded.data[i];
        SEQREC_CHECK(id >= 0 && id < n_items, function, ": exclude holds the id ", id, " at index ",
                     i, "; expected ids from 0 to ", n_items - 1);
    }
}

// The excluded ids as the kernel searches them: ascending within each query.
std::vector<std::int32_t> sorted_exclusions(const Topk& call) {
    std::vector<std::int32_t> ids(static_cast<std::size_t>(call.excluded.columns));
    std::transform(call.excluded.data, call.excluded.data + call.excluded.columns, ids.begin(),
                   [](std::int64_t id) { return static_cast<std::int32_t>(id); });
    const std::int64_t* const offsets = call.exclude_offsets.data;
    constexpr std::int64_t kQueriesPerTask = 16;
    const std::int64_t n_queries = call.queries.rows;
    parallel_for((n_queries + kQueriesPerTask - 1) / kQueriesPerTask, [&](std::int64_t task) {
        const std::int64_t end = std::min(n_queries, (task + 1) * kQueriesPerTask);
        for (std::int64_t q = task * kQueriesPerTask; q < end; ++q) {
            std::sort(ids.data() + offsets[q], ids.data() + offsets[q + 1]);
        }
    });
    return ids;
}

}  // namespace

PackedItems pack_items(const char* function, const MatrixView<const float>& items,
                       const MatrixView<const float>& bias) {
    SEQREC_CHECK(items.columns >= 1, function, ": items has ", items.columns,
                 " columns; expected at least 1");
    SEQREC_CHECK(items.rows <= std::numeric_limits<std::int32_t>::max(), function, ": items has ",
                 items.rows, " rows; expected fewer than 2147483648");
    check_shape(function, "items", items, items.rows, items.columns);
    check_shape(function, "bias", bias, 1, items.rows);
    return PackedItems(items.data, items.rows, items.columns, bias.data);
}

void topk(const char* function, const Topk& call) {
    const std::int64_t n_queries = call.queries.rows;
    SEQREC_CHECK(call.k >= 1, function, ": k is ", call.k, "; expected at least 1");
    check_shape(function, "queries", call.queries, n_queries, call.items->dim());
    check_shape(function, "scores", call.scores, n_queries, call.k);
    check_shape(function, "ids", call.ids, n_queries, call.k);
    std::vector<std::int32_t> excluded;
    if (call.exclude_offsets.present()) {
        check_exclusions(function, call);
        excluded = sorted_exclusions(call);
    }
    topk_cpu({call.items, call.queries.data, n_queries, call.k,
              excluded.empty() ? nullptr : excluded.data(), call.exclude_offsets.data,
              call.scores.data, call.ids.data});
}

}  // namespace seqrec_fast
