// Tensors of PyTorch on the CPU, by what they say of themselves: nothing of PyTorch is linked or
// imported. Asking a tensor for a NumPy array takes several times as long.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace seqrec_fast {

bool is_torch_tensor(const pybind11::object& object);

// Memory of a contiguous tensor; all its dimensions but the last are rows.
struct TensorMemory {
    void* data;
    std::int64_t rows, columns;
};

// Throws TypeError unless the tensor is contiguous, on the CPU and of the dtype that PyTorch names
// so; "uint8" may be bool.
TensorMemory tensor_memory(const char* function, const char* argument,
                           const pybind11::object& tensor, const char* dtype);

}  // namespace seqrec_fast
