#include "ops/cuda/topk.h"

#include <limits>

namespace seqrec_fast {

std::int64_t topk_workspace(std::int64_t n_queries, std::int64_t n_items, std::int64_t dim,
                            std::int64_t k) {
    SEQREC_CHECK(k >= 1, "topk: k is ", k, "; expected at least 1");
    SEQREC_CHECK(n_queries >= 0 && n_items >= 0, "topk: ", n_queries, " queries and ", n_items,
                 " items; expected none or more");
    SEQREC_CHECK(dim >= 1, "topk: items has no columns");
    return topk_workspace_cuda(n_queries, n_items, dim, k);
}

void topk(const TopkOfRows& call, cudaStream_t stream) {
    constexpr std::int64_t kMostItems = std::numeric_limits<std::int32_t>::max();
    const std::int64_t n_queries = call.queries.rows, n_items = call.items.rows;
    const std::int64_t dim = call.items.columns;
    SEQREC_CHECK(call.k >= 1, "topk: k is ", call.k, "; expected at least 1");
    SEQREC_CHECK(n_items <= kMostItems, "topk: items has ", n_items, " rows; expected up to ",
                 kMostItems);
    check_required("topk", "queries", call.queries, n_queries, dim);
    check_required("topk", "items", call.items, n_items, dim);
    check_shape("topk", "bias", call.bias, 1, n_items);
    SEQREC_CHECK(call.excluded.present() == call.exclude_offsets.present(),
                 "topk: exclude has only one of its arrays; expected values and offsets");
    check_shape("topk", "exclude", call.excluded, 1, call.excluded.columns);
    check_shape("topk", "the offsets of exclude", call.exclude_offsets, 1, n_queries + 1);
    check_shape("topk", "allow", call.allowed, call.allowed.rows == 1 ? 1 : n_queries, n_items);
    check_required("topk", "scores", call.scores, n_queries, call.k);
    check_required("topk", "ids", call.ids, n_queries, call.k);
    const std::int64_t room = topk_workspace(n_queries, n_items, dim, call.k);
    SEQREC_CHECK(
        call.workspace.present() && call.workspace.rows == 1 && call.workspace.columns >= room,
        "topk: workspace has ", call.workspace.columns, " entries; expected ", room);
    SEQREC_CHECK(reinterpret_cast<std::uintptr_t>(call.workspace.data) % 16 == 0,
                 "topk: workspace is not aligned to 16 bytes");
    static_assert(sizeof(unsigned long long) == sizeof(std::int64_t));
    topk_cuda({call.queries.data, call.items.data, call.bias.data, n_queries, n_items, dim, call.k,
               call.excluded.data, call.exclude_offsets.data, call.excluded.columns,
               call.allowed.data, call.allowed.rows == 1 ? 0 : n_items, call.scores.data,
               call.ids.data, reinterpret_cast<unsigned long long*>(call.workspace.data)},
              stream);
}

}  // namespace seqrec_fast
