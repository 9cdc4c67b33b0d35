// What the passes of a recurrent layer ask of their arguments.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/rnn_noise.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {

// `size`: the elements of a required one; without any it may be absent.
template <class T>
void check_present(const char* function, const char* argument, const MatrixView<T>& view,
                   bool required, std::int64_t size) {
    SEQREC_CHECK(view.present() == required || (required && size == 0), function, ": ", argument,
                 required ? " is missing" : " does not belong here");
}

inline void check_noise(const char* function, const RnnNoise* noise, std::int64_t batch) {
    if (noise == nullptr) {
        return;
    }
    const auto check_rate = [&](const char* name, double rate) {
        SEQREC_CHECK(rate >= 0 && rate < 1, function, ": ", name, " is ", rate,
                     "; expected 0 <= ", name, " < 1");
    };
    check_rate("recurrent_dropout", noise->recurrent_dropout);
    check_rate("zoneout", noise->zoneout);
    const auto sessions = static_cast<std::int64_t>(noise->sessions.size());
    SEQREC_CHECK(sessions == 0 || sessions == batch, function, ": sessions has ", sessions,
                 " entries; expected ", batch, ", the sessions of the batch");
}

template <class T>
std::vector<const T*> row_pointers(const T* matrix, std::int64_t rows, std::int64_t columns) {
    std::vector<const T*> pointers(static_cast<std::size_t>(rows));
    for (std::int64_t i = 0; i < rows; ++i) {
        pointers[static_cast<std::size_t>(i)] = matrix + i * columns;
    }
    return pointers;
}

}  // namespace seqrec_fast
