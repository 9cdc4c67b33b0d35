// NumPy arrays and tensors of PyTorch -> MatrixView: exact dtype, contiguous rows, never a copy.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <type_traits>
#include <vector>

#include "base/tensor_view.h"
#include "bindings/torch_tensor.h"

namespace seqrec_fast {

// As PyTorch names it; nullptr for what it has not, or not under this name.
template <class T>
constexpr const char* torch_dtype() {
    if constexpr (std::is_same_v<T, float>) {
        return "float32";
    } else if constexpr (std::is_same_v<T, double>) {
        return "float64";
    } else if constexpr (std::is_same_v<T, std::int32_t>) {
        return "int32";
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
        return "int64";
    } else if constexpr (std::is_same_v<T, std::uint8_t>) {
        return "uint8";
    } else {
        return nullptr;
    }
}

// None -> absent; (n) -> one row; (rows, columns) -> as it is; a tensor's dimensions but the last
// are rows. Throws TypeError for anything else.
template <class T>
MatrixView<T> matrix_view(const char* function, const char* argument,
                          const pybind11::object& object) {
    namespace py = pybind11;
    using Value = std::remove_const_t<T>;
    if (object.is_none()) {
        return {};
    }
    if (!py::isinstance<py::array_t<Value>>(object)) {
        if (torch_dtype<Value>() != nullptr && is_torch_tensor(object)) {
            const TensorMemory memory =
                tensor_memory(function, argument, object, torch_dtype<Value>());
            return {static_cast<T*>(memory.data), memory.rows, memory.columns, memory.columns};
        }
        throw py::type_error(concat(function, ": ", argument, " is not a NumPy array of ",
                                    py::cast<std::string>(py::str(py::dtype::of<Value>()))));
    }
    auto array = py::reinterpret_borrow<py::array>(object);
    if (array.ndim() < 1 || array.ndim() > 2) {
        throw py::type_error(concat(function, ": ", argument, " has ", array.ndim(),
                                    " dimensions; expected 1 or 2"));
    }
    constexpr py::ssize_t kItem = static_cast<py::ssize_t>(sizeof(T));
    const bool flat = array.ndim() == 1;
    MatrixView<T> view;
    view.rows = flat ? 1 : array.shape(0);
    view.columns = array.shape(array.ndim() - 1);
    view.row_stride = flat ? view.columns : array.strides(0) / kItem;
    // An empty array may have any strides.
    const bool rows_contiguous =
        view.columns <= 1 || view.rows == 0 || array.strides(array.ndim() - 1) == kItem;
    if (!rows_contiguous || (view.rows > 1 && (flat ? 0 : array.strides(0) % kItem) != 0)) {
        throw py::type_error(concat(function, ": the rows of ", argument, " are not contiguous"));
    }
    if constexpr (std::is_const_v<T>) {
        view.data = static_cast<T*>(array.data());
    } else {
        view.data = static_cast<T*>(array.mutable_data());
    }
    return view;
}

// A copy.
inline pybind11::array_t<std::int64_t> array_of(const std::vector<std::int64_t>& values) {
    return pybind11::array_t<std::int64_t>(static_cast<pybind11::ssize_t>(values.size()),
                                           values.data());
}

// What reads the arrays of one function.
struct Arrays {
    const char* function;

    template <class T>
    MatrixView<T> view(const char* argument, const pybind11::object& object) const {
        return matrix_view<T>(function, argument, object);
    }
};

}  // namespace seqrec_fast
