// Argument checks of the C++ API: they throw before any memory is touched.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace seqrec_fast {

// Joins its arguments into one message: concat("gru: h0 has ", n, " rows").
template <class... Parts>
std::string concat(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    return out.str();
}

}  // namespace seqrec_fast

// Throws std::invalid_argument (ValueError in Python) with the joined message unless `condition`.
#define SEQREC_CHECK(condition, ...)                                         \
    do {                                                                     \
        if (!(condition)) {                                                  \
            throw std::invalid_argument(::seqrec_fast::concat(__VA_ARGS__)); \
        }                                                                    \
    } while (false)
