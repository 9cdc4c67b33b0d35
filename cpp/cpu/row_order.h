// Rows of a table by ascending id.
#pragma once

#include <cstdint>
#include <vector>

namespace seqrec_fast {

// Positions 0 .. n - 1 by ascending id, equal ids in their order, and where each id begins.
struct RowOrder {
    std::vector<std::int64_t> order, begin, ids;
};
RowOrder order_rows(const std::int64_t* ids, std::int64_t n);

}  // namespace seqrec_fast
