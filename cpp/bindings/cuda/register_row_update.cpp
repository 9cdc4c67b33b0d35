#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "bindings/row_rule_binding.h"
#include "ops/cuda/row_update.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

template <class T>
void run_row_sum(const py::object& order, const py::object& begin, const py::tuple& rows,
                 const py::object& factors, const py::object& sums,
                 const std::vector<std::int64_t>& repeats, std::uintptr_t stream) {
    const DeviceArrays arrays{"row_sum"};
    RowSum<T> call;
    call.order = arrays.view<const std::int64_t>("order", order);
    call.begin = arrays.view<const std::int64_t>("begin", begin);
    for (const py::handle part : rows) {
        call.rows.push_back(arrays.view<const T>("rows", py::reinterpret_borrow<py::object>(part)));
    }
    call.repeats = repeats;
    call.factors = arrays.view<const T>("factors", factors);
    call.sums = arrays.view<T>("sums", sums);
    const py::gil_scoped_release release;
    row_sum(arrays.function, call, as_stream(stream));
}

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
void register_for(py::module_& m, const std::string& suffix) {
    m.def(("row_sum" + suffix).c_str(), &run_row_sum<T>, py::arg("order"), py::arg("begin"),
          py::arg("rows"), py::arg("factors"), py::arg("sums"), py::arg("repeats"),
          py::arg("stream"));
    m.def(("update_rows" + suffix).c_str(), &run_update_rows<T>, py::arg("rule"), py::arg("ids"),
          py::arg("gradients"), py::arg("table"), py::arg("stream"));
}

}  // namespace

void register_cuda_row_update(py::module_& m) {
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
