#include <string>

#include "bindings/array_caster.h"
#include "bindings/cross_entropy_call.h"
#include "bindings/register.h"
#include "bindings/row_rule_binding.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

template <class T>
void run_cross_entropy(const Object& hidden, const Object& weight, const Object& bias,
                       const Object& target, double scale, double softcap, double label_smoothing,
                       const std::string& precision, const Object& loss, const Object& log_sum) {
    const char* const kName = "linear_cross_entropy";
    CrossEntropy<T> call = read_cross_entropy<T>(Arrays{kName}, hidden, weight, bias, target, scale,
                                                 softcap, label_smoothing, precision, log_sum);
    call.loss = matrix_view<T>(kName, "loss", loss);
    const py::gil_scoped_release release;
    cross_entropy(kName, call);
}

template <class T>
void run_cross_entropy_grad(const Object& hidden, const Object& weight, const Object& bias,
                            const Object& target, double scale, double softcap,
                            double label_smoothing, const std::string& precision,
                            const Object& log_sum, const Object& row_grad, const Object& dhidden,
                            const Object& dweight, const Object& dbias, const Object& rule) {
    const char* const kName = "linear_cross_entropy";
    CrossEntropyGrad<T> call{};
    call.forward = read_cross_entropy<T>(Arrays{kName}, hidden, weight, bias, target, scale,
                                         softcap, label_smoothing, precision, log_sum);
    call.row_grad = matrix_view<const T>(kName, "row_grad", row_grad);
    call.dhidden = matrix_view<T>(kName, "dhidden", dhidden);
    call.dweight = matrix_view<T>(kName, "dweight", dweight);
    call.dbias = matrix_view<T>(kName, "dbias", dbias);
    RowRule<T> row_rule;
    if (!rule.is_none()) {
        row_rule = read_rule<T>(kName, py::cast<py::tuple>(rule));
        call.rule = &row_rule;
        call.table = matrix_view<T>(kName, "weight", weight);
    }
    const py::gil_scoped_release release;
    cross_entropy_grad(kName, call);
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    const auto name = [&](const char* function) { return function + suffix; };
    m.def(name("cross_entropy").c_str(), &run_cross_entropy<T>, py::arg("hidden"),
          py::arg("weight"), py::arg("bias"), py::arg("target"), py::arg("scale"),
          py::arg("softcap"), py::arg("label_smoothing"), py::arg("precision"), py::arg("loss"),
          py::arg("log_sum"));
    m.def(name("cross_entropy_grad").c_str(), &run_cross_entropy_grad<T>, py::arg("hidden"),
          py::arg("weight"), py::arg("bias"), py::arg("target"), py::arg("scale"),
          py::arg("softcap"), py::arg("label_smoothing"), py::arg("precision"), py::arg("log_sum"),
          py::arg("row_grad"), py::arg("dhidden"), py::arg("dweight"), py::arg("dbias"),
          py::arg("rule"));
}

}  // namespace

void register_cross_entropy(py::module_& m) {
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
