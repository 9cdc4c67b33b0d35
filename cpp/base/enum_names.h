// Enumerators by the names that Python has for them.
#pragma once

#include <cstddef>
#include <string>

#include "base/check.h"

namespace seqrec_fast {

template <class Enum>
struct EnumName {
    const char* name;
    Enum value;
};

// The enumerator of that name; throws std::invalid_argument, which lists them all, if none has it.
template <class Enum, std::size_t n>
Enum parse_enum(const char* what, const std::string& name, const EnumName<Enum> (&known)[n]) {
    std::string expected;
    for (const auto& [known_name, value] : known) {
        if (name == known_name) {
            return value;
        }
        expected += (expected.empty() ? "" : ", ") + std::string(known_name);
    }
    throw std::invalid_argument(concat(what, " is ", name, "; expected one of ", expected));
}

}  // namespace seqrec_fast
