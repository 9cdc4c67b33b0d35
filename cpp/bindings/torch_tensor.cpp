#include "bindings/torch_tensor.h"

#include <pybind11/gil_safe_call_once.h>

#include <atomic>
#include <cstring>

#include "base/check.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

// What is asked of PyTorch and of every tensor, kept because names take longer than answers.
struct Torch {
    struct Dtype {
        const char* name;
        Object object;
    };
    Object tensor;
    Dtype dtypes[5];
    Object boolean;
    py::str is_cpu, is_contiguous, is_neg, dtype, shape, data_ptr;

    explicit Torch(const py::module_& torch)
        : tensor(torch.attr("Tensor")),
          dtypes{{"float32", torch.attr("float32")},
                 {"float64", torch.attr("float64")},
                 {"int32", torch.attr("int32")},
                 {"int64", torch.attr("int64")},
                 {"uint8", torch.attr("uint8")}},
          boolean(torch.attr("bool")),
          is_cpu(interned("is_cpu")),
          is_contiguous(interned("is_contiguous")),
          is_neg(interned("is_neg")),
          dtype(interned("dtype")),
          shape(interned("shape")),
          data_ptr(interned("data_ptr")) {}

    bool has_dtype(const Object& found, const char* name) const {
        for (const Dtype& known : dtypes) {
            if (std::strcmp(known.name, name) == 0) {
                return found.is(known.object);
            }
        }
        return false;
    }

  private:
    static py::str interned(const char* name) {
        return py::reinterpret_steal<py::str>(PyUnicode_InternFromString(name));
    }
};

// nullptr in a program that has not imported PyTorch, or not all of it yet.
const Torch* torch() {
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<Torch> storage;
    static std::atomic<bool> stored{false};
    if (!stored) {
        const auto module =
            py::reinterpret_steal<py::module_>(PyImport_GetModule(py::str("torch").ptr()));
        if (!module || !py::hasattr(module, "Tensor") || !py::hasattr(module, "bool")) {
            PyErr_Clear();
            return nullptr;
        }
        storage.call_once_and_store_result([&] { return Torch(module); });
        stored = true;
    }
    return &storage.get_stored();
}

Object checked(PyObject* result) {
    if (result == nullptr) {
        throw py::error_already_set();
    }
    return py::reinterpret_steal<Object>(result);
}

Object get(const Object& tensor, const py::str& name) {
    return checked(PyObject_GetAttr(tensor.ptr(), name.ptr()));
}

Object call(const Object& tensor, const py::str& method) {
    return checked(PyObject_CallMethodNoArgs(tensor.ptr(), method.ptr()));
}

}  // namespace

bool is_torch_tensor(const Object& object) {
    const Torch* const known = torch();
    return known != nullptr && PyObject_IsInstance(object.ptr(), known->tensor.ptr()) == 1;
}

TensorMemory tensor_memory(const char* function, const char* argument, const Object& tensor,
                           const char* dtype) {
    const Torch& known = *torch();
    const auto require = [&](bool holds, const char* what) {
        if (!holds) {
            throw py::type_error(concat(function, ": ", argument, what));
        }
    };
    const Object found = get(tensor, known.dtype);
    if (!known.has_dtype(found, dtype) &&
        !(std::strcmp(dtype, "uint8") == 0 && found.is(known.boolean))) {
        throw py::type_error(concat(function, ": ", argument, " is ",
                                    py::cast<std::string>(py::str(found)), "; expected torch.",
                                    dtype));
    }
    require(get(tensor, known.is_cpu).ptr() == Py_True, " is not on the CPU");
    require(call(tensor, known.is_contiguous).ptr() == Py_True, " is not contiguous");
    require(call(tensor, known.is_neg).ptr() != Py_True, " is negated when read; resolve_neg()");
    const Object shape = get(tensor, known.shape);
    const py::ssize_t dims = PyTuple_Size(shape.ptr());
    require(dims >= 1, " has 0 dimensions; expected at least 1");
    TensorMemory memory{nullptr, 1, 0};
    for (py::ssize_t i = 0; i < dims; ++i) {
        memory.columns = PyLong_AsLongLong(PyTuple_GetItem(shape.ptr(), i));
        memory.rows *= i + 1 < dims ? memory.columns : 1;
    }
    if (PyErr_Occurred() != nullptr) {
        throw py::error_already_set();
    }
    alignas(64) static char nothing[64];  // a tensor without elements is present
    if (memory.rows * memory.columns == 0) {
        memory.data = nothing;
        return memory;
    }
    memory.data = PyLong_AsVoidPtr(call(tensor, known.data_ptr).ptr());
    if (PyErr_Occurred() != nullptr) {
        throw py::error_already_set();
    }
    require(memory.data != nullptr, " has no memory of its own");
    return memory;
}

}  // namespace seqrec_fast
