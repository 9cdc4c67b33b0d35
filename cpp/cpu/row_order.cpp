#include "cpu/row_order.h"

#include "base/radix_sort.h"

namespace seqrec_fast {

RowOrder order_rows(const std::int64_t* ids, std::int64_t n) {
    struct Place {
        std::int64_t id, place;
    };
    RowOrder result;
    std::vector<Place> sorted;
    sorted.reserve(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
        sorted.push_back({ids[i], i});
    }
    // With the sign bit turned over, negative ids come first.
    radix_sort(sorted, [](const Place& row) {
        return static_cast<std::uint64_t>(row.id) ^ std::uint64_t{1} << 63;
    });
    result.order.reserve(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
        const auto [id, place] = sorted[static_cast<std::size_t>(i)];
        result.order.push_back(place);
        if (result.ids.empty() || result.ids.back() != id) {
            result.ids.push_back(id);
            result.begin.push_back(i);
        }
    }
    result.begin.push_back(n);
    return result;
}

}  // namespace seqrec_fast
