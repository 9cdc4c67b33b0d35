// Arrays in the memory of a GPU -> MatrixView. They are told, not owned: address, dtype and shape.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "base/half.h"
#include "base/tensor_view.h"
#include "cuda/simt.h"

namespace seqrec_fast {

struct DeviceArray {
    std::uintptr_t address;
    std::string dtype;  // as NumPy names it; bfloat16 for what NumPy has not
    std::vector<std::int64_t> shape;
};

template <class T>
constexpr const char* dtype_name() {
    if constexpr (std::is_same_v<T, float>) {
        return "float32";
    } else if constexpr (std::is_same_v<T, double>) {
        return "float64";
    } else if constexpr (std::is_same_v<T, std::int64_t>) {
        return "int64";
    } else if constexpr (std::is_same_v<T, std::uint16_t> || std::is_same_v<T, Bfloat16>) {
        return "bfloat16";
    } else if constexpr (std::is_same_v<T, Float16>) {
        return "float16";
    } else {
        static_assert(std::is_same_v<T, std::uint8_t>);
        return "uint8";
    }
}

// None -> absent; (n) -> one row; (rows, columns) -> as it is, contiguous. Throws TypeError for
// anything else. An array without elements is present, whatever its address.
template <class T>
MatrixView<T> device_view(const char* function, const char* argument,
                          const pybind11::object& object) {
    namespace py = pybind11;
    if (object.is_none()) {
        return {};
    }
    if (!py::isinstance<DeviceArray>(object)) {
        throw py::type_error(concat(function, ": ", argument, " is not a DeviceArray"));
    }
    const auto& array = py::cast<const DeviceArray&>(object);
    using Value = std::remove_const_t<T>;
    if (array.dtype != dtype_name<Value>()) {
        throw py::type_error(concat(function, ": ", argument, " is ", array.dtype, "; expected ",
                                    dtype_name<Value>()));
    }
    if (array.shape.empty() || array.shape.size() > 2) {
        throw py::type_error(concat(function, ": ", argument, " has ", array.shape.size(),
                                    " dimensions; expected 1 or 2"));
    }
    MatrixView<T> view;
    view.rows = array.shape.size() == 1 ? 1 : array.shape[0];
    view.columns = array.shape.back();
    view.row_stride = view.columns;
    alignas(16) static Value nothing;  // as kernels may ask of an address
    view.data = view.rows * view.columns == 0 ? &nothing : reinterpret_cast<T*>(array.address);
    return view;
}

// What reads the arrays of one function.
struct DeviceArrays {
    const char* function;

    template <class T>
    MatrixView<T> view(const char* argument, const pybind11::object& object) const {
        return device_view<T>(function, argument, object);
    }
};

// A stream as PyTorch gives it: torch.cuda.current_stream().cuda_stream.
inline cudaStream_t as_stream(std::uintptr_t stream) {
    return reinterpret_cast<cudaStream_t>(stream);
}

}  // namespace seqrec_fast
