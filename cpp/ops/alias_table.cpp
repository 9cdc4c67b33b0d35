#include "ops/alias_table.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/radix_sort.h"

namespace seqrec_fast {
namespace {

constexpr const char* kName = "AliasTable";

// The sum of checked probabilities.
double total_of(const MatrixView<const double>& probabilities) {
    SEQREC_CHECK(probabilities.rows == 1 && probabilities.columns >= 1, kName,
                 ": probabilities has shape (", probabilities.rows, ", ", probabilities.columns,
                 "); expected one row of one or more");
    double total = 0;
    for (std::int64_t i = 0; i < probabilities.columns; ++i) {
        const double p = probabilities.data[i];
        SEQREC_CHECK(p >= 0 && std::isfinite(p), kName, ": probabilities[", i, "] is ", p,
                     "; expected a finite number, 0 or more");
        total += p;
    }
    SEQREC_CHECK(total > 0, kName, ": probabilities are all 0; expected at least one above 0");
    SEQREC_CHECK(std::isfinite(total), kName, ": probabilities sum to ", total,
                 "; expected a finite sum");
    return total;
}

}  // namespace

AliasTable::AliasTable(const MatrixView<const double>& probabilities) {
    const double total = total_of(probabilities);
    const auto n = static_cast<std::size_t>(probabilities.columns);
    const double* const p = probabilities.data;
    std::vector<double> share(n);  // of a slot that an item fills: 1 on average
    // Items below 1 from the front, those with more to give from the back.
    std::vector<std::size_t> items(n);
    std::size_t small = 0, large = n;
    for (std::size_t i = 0; i < n; ++i) {
        share[i] = p[i] / total * static_cast<double>(n);
        items[share[i] < 1 ? small++ : --large] = i;
    }
    slots_.resize(n);
    while (small > 0 && large < n) {
        const std::size_t item = items[--small], giver = items[large];
        slots_[item] = {static_cast<std::uint64_t>(std::ldexp(share[item], 64)),
                        static_cast<std::int64_t>(giver)};
        share[giver] = (share[giver] + share[item]) - 1;
        if (share[giver] < 1) {
            ++large;
            items[small++] = giver;
        }
    }
    // What is left has a share of 1 but for rounding; an item of probability 0 is never drawn.
    const std::int64_t likeliest = std::max_element(p, p + n) - p;
    const auto fill = [&](std::size_t item) {
        const bool never = p[item] == 0;
        slots_[item] = {never ? 0 : std::numeric_limits<std::uint64_t>::max(),
                        never ? likeliest : static_cast<std::int64_t>(item)};
    };
    std::for_each(items.begin(), items.begin() + static_cast<std::ptrdiff_t>(small), fill);
    std::for_each(items.begin() + static_cast<std::ptrdiff_t>(large), items.end(), fill);
}

std::vector<std::int64_t> AliasTable::draw(std::int64_t n, std::uint64_t seed,
                                           std::uint64_t counter, bool ordered) const {
    SEQREC_CHECK(n >= 0 && n <= kMaxAliasDraws, kName, ".draw: n is ", n, "; expected 0 to ",
                 kMaxAliasDraws);
    std::vector<std::int64_t> ids(static_cast<std::size_t>(n));
    alias_draw_cpu(
        {slots_.data(), static_cast<std::int64_t>(slots_.size()), seed, counter, n, ids.data()});
    if (ordered) {
        radix_sort(ids, [](std::int64_t id) { return static_cast<std::uint64_t>(id); });
    }
    return ids;
}

}  // namespace seqrec_fast
