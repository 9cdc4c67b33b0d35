#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "bindings/array_caster.h"
#include "bindings/register.h"
#include "bindings/row_rule_binding.h"
#include "cpu/row_order.h"
#include "ops/argument_checks.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

py::tuple run_order_rows(const Object& ids) {
    const auto view = matrix_view<const std::int64_t>("order_rows", "ids", ids);
    check_shape("order_rows", "ids", view, 1, view.columns);
    const RowOrder order = order_rows(view.data, view.columns);
    return py::make_tuple(array_of(order.order), array_of(order.begin), array_of(order.ids));
}

template <class T>
void run_row_sum(const Object& order, const Object& begin, const py::list& rows,
                 const Object& factors, const Object& sums,
                 const std::vector<std::int64_t>& repeats) {
    const char* const kName = "row_sum";
    RowSum<T> call;
    call.order = matrix_view<const std::int64_t>(kName, "order", order);
    call.begin = matrix_view<const std::int64_t>(kName, "begin", begin);
    for (const py::handle part : rows) {
        call.rows.push_back(
            matrix_view<const T>(kName, "rows", py::reinterpret_borrow<Object>(part)));
    }
    call.repeats = repeats;
    call.factors = matrix_view<const T>(kName, "factors", factors);
    call.sums = matrix_view<T>(kName, "sums", sums);
    const py::gil_scoped_release release;
    row_sum(kName, call);
}

template <class T>
void run_update_rows(const py::tuple& rule, const Object& ids, const Object& gradients,
                     const Object& table) {
    const char* const kName = "update_rows";
    TableUpdate<T> call;
    call.rule = read_rule<T>(kName, rule);
    call.ids = matrix_view<const std::int64_t>(kName, "ids", ids);
    call.gradients = matrix_view<const T>(kName, "gradients", gradients);
    call.table = matrix_view<T>(kName, "table", table);
    const py::gil_scoped_release release;
    update_rows(kName, call);
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    const auto name = [&](const char* function) { return function + suffix; };
    m.def(name("row_sum").c_str(), &run_row_sum<T>, py::arg("order"), py::arg("begin"),
          py::arg("rows"), py::arg("factors"), py::arg("sums"),
          py::arg("repeats") = std::vector<std::int64_t>());
    m.def(name("update_rows").c_str(), &run_update_rows<T>, py::arg("rule"), py::arg("ids"),
          py::arg("gradients"), py::arg("table"));
}

}  // namespace

void register_row_update(py::module_& m) {
    m.def("order_rows", &run_order_rows, py::arg("ids"));
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
