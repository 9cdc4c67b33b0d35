#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "bindings/row_rule_binding.h"
#include "ops/cuda/row_update.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

template <class T>
void run_update_rows(const py::tuple& rule, const py::object& ids, const py::object& gradients,
                     const py::object& table, std::uintptr_t stream) {
    const DeviceArrays arrays{"update_rows"};
    TableUpdate<T> call;
    call.rule = read_rule<T>(arrays, rule);
    call.ids = arrays.view<const std::int64_t>("ids", ids);
    call.gradients = arrays.view<const T>("gradients", gradients);
    call.table = arrays.view<T>("table", table);
    const py::gil_scoped_release release;
    update_rows(arrays.function, call, as_stream(stream));
}

template <class T>
void register_for(py::module_& m, const char* name) {
    m.def(name, &run_update_rows<T>, py::arg("rule"), py::arg("ids"), py::arg("gradients"),
          py::arg("table"), py::arg("stream"));
}

}  // namespace

void register_cuda_row_update(py::module_& m) {
    register_for<float>(m, "update_rows_f32");
    register_for<double>(m, "update_rows_f64");
}

}  // namespace seqrec_fast
