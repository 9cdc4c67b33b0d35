// Checks of arguments that several ops share.
#pragma once

#include <algorithm>
#include <cstdint>

#include "base/huge_pages.h"
#include "base/tensor_view.h"

namespace seqrec_fast {

// Throws unless every value is from `least` to n - 1.
template <class View>
void check_ids(const char* function, const char* argument, const View& ids, std::int64_t least,
               std::int64_t n) {
    const std::int64_t* const end = ids.data + ids.rows * ids.columns;
    // A difference is negative, or wraps to it, if an id is out of range. Or-ed over all ids, which
    // compilers turn into vectors, as they do not a loop that stops at the first.
    std::uint64_t signs = 0;
    for (const std::int64_t* id = ids.data; id != end; ++id) {
        const auto value = static_cast<std::uint64_t>(*id);
        signs |= value - static_cast<std::uint64_t>(least);
        signs |= static_cast<std::uint64_t>(n - 1) - value;
    }
    if (signs >> 63 != 0) {
        const auto is_wrong = [&](std::int64_t id) { return id < least || id >= n; };
        const std::int64_t* const wrong = std::find_if(ids.data, end, is_wrong);
        SEQREC_CHECK(false, function, ": ", argument, "[", wrong - ids.data, "] is ", *wrong,
                     "; expected ", least, " to ", n - 1);
    }
}

// Throws unless `offsets` are a row of at least one entry.
inline void check_offsets_shape(const char* function, const char* argument,
                                const MatrixView<const std::int64_t>& offsets) {
    SEQREC_CHECK(offsets.present() && offsets.rows == 1 && offsets.columns >= 1, function, ": ",
                 argument, " has no entries; expected one more than there are parts");
}

// Throws unless `offsets` (1, parts + 1) start at 0, never decrease and end at `n`, the number of
// `what`.
inline void check_offsets(const char* function, const char* argument,
                          const MatrixView<const std::int64_t>& offsets, std::int64_t n,
                          const char* what) {
    check_offsets_shape(function, argument, offsets);
    const std::int64_t last = offsets.columns - 1;
    SEQREC_CHECK(offsets.data[0] == 0, function, ": ", argument, "[0] is ", offsets.data[0],
                 "; expected 0");
    for (std::int64_t i = 0; i < last; ++i) {
        SEQREC_CHECK(offsets.data[i] <= offsets.data[i + 1], function, ": ", argument,
                     " decreases from ", offsets.data[i], " to ", offsets.data[i + 1], " at index ",
                     i + 1);
    }
    SEQREC_CHECK(offsets.data[last] == n, function, ": ", argument, " ends at ", offsets.data[last],
                 "; expected ", n, ", the number of ", what);
}

// What an op writes from end to end: see prefer_huge_pages.
template <class T>
void expect_fresh(const MatrixView<T>& view) {
    if (view.present()) {
        prefer_huge_pages(view.data,
                          static_cast<std::size_t>(view.rows * view.columns) * sizeof(T));
    }
}

}  // namespace seqrec_fast
