// A matrix somewhere in memory: what the ops take. It owns nothing.
#pragma once

#include <cstdint>

#include "base/check.h"

namespace seqrec_fast {

// Rows of `columns` contiguous elements, `row_stride` elements apart. data == nullptr: absent.
template <class T>
struct MatrixView {
    T* data = nullptr;
    std::int64_t rows = 0;
    std::int64_t columns = 0;
    std::int64_t row_stride = 0;

    bool present() const { return data != nullptr; }
    bool contiguous() const { return row_stride == columns || rows <= 1; }
};

// Throws std::invalid_argument unless `view` is absent or has the shape and is contiguous.
template <class T>
void check_shape(const char* function, const char* argument, const MatrixView<T>& view,
                 std::int64_t rows, std::int64_t columns) {
    if (!view.present()) {
        return;
    }
    SEQREC_CHECK(view.rows == rows && view.columns == columns, function, ": ", argument,
                 " has shape (", view.rows, ", ", view.columns, "); expected (", rows, ", ",
                 columns, ")");
    SEQREC_CHECK(view.contiguous(), function, ": ", argument, " is not contiguous");
}

// The same, and throws if the view is absent.
template <class T>
void check_required(const char* function, const char* argument, const MatrixView<T>& view,
                    std::int64_t rows, std::int64_t columns) {
    SEQREC_CHECK(view.present(), function, ": ", argument, " is missing");
    check_shape(function, argument, view, rows, columns);
}

}  // namespace seqrec_fast
