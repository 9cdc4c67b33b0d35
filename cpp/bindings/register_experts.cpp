#include <string>

#include "bindings/array_caster.h"
#include "bindings/expert_calls.h"
#include "bindings/register.h"
#include "ops/grouped_linear.h"
#include "ops/multi_gate.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

template <class T>
void run_grouped_linear(const Object& x, const Object& weight, const Object& bias,
                        const Object& group_offsets, const Object& y) {
    const char* const kName = "grouped_linear";
    const auto call = read_grouped_linear<T>(Arrays{kName}, x, weight, bias, group_offsets, y);
    const py::gil_scoped_release release;
    grouped_linear(kName, call);
}

template <class T>
void run_grouped_linear_grad(const Object& x, const Object& weight, const Object& group_offsets,
                             const Object& dy, const Object& dx, const Object& dweight,
                             const Object& dbias) {
    const char* const kName = "grouped_linear";
    const auto call = read_grouped_linear_grad<T>(Arrays{kName}, x, weight, group_offsets, dy, dx,
                                                  dweight, dbias);
    const py::gil_scoped_release release;
    grouped_linear_grad(kName, call);
}

template <class T>
void run_multi_gate(std::int64_t experts, std::int64_t gates, const Object& expert_outputs,
                    const Object& gate_logits, const Object& mixture) {
    const char* const kName = "multi_gate_mixture";
    const auto call = read_multi_gate_forward<T>(Arrays{kName}, experts, gates, expert_outputs,
                                                 gate_logits, mixture);
    const py::gil_scoped_release release;
    multi_gate(kName, call);
}

template <class T>
void run_multi_gate_grad(std::int64_t experts, std::int64_t gates, const Object& expert_outputs,
                         const Object& gate_logits, const Object& dmixture, const Object& dexpert,
                         const Object& dlogits) {
    const char* const kName = "multi_gate_mixture";
    const auto call = read_multi_gate_grad<T>(Arrays{kName}, experts, gates, expert_outputs,
                                              gate_logits, dmixture, dexpert, dlogits);
    const py::gil_scoped_release release;
    multi_gate_grad(kName, call);
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    const auto name = [&](const char* function) { return function + suffix; };
    m.def(name("grouped_linear").c_str(), &run_grouped_linear<T>, py::arg("x"), py::arg("weight"),
          py::arg("bias"), py::arg("group_offsets"), py::arg("y"));
    m.def(name("grouped_linear_grad").c_str(), &run_grouped_linear_grad<T>, py::arg("x"),
          py::arg("weight"), py::arg("group_offsets"), py::arg("dy"), py::arg("dx"),
          py::arg("dweight"), py::arg("dbias"));
    m.def(name("multi_gate").c_str(), &run_multi_gate<T>, py::arg("experts"), py::arg("gates"),
          py::arg("expert_outputs"), py::arg("gate_logits"), py::arg("mixture"));
    m.def(name("multi_gate_grad").c_str(), &run_multi_gate_grad<T>, py::arg("experts"),
          py::arg("gates"), py::arg("expert_outputs"), py::arg("gate_logits"), py::arg("dmixture"),
          py::arg("dexpert"), py::arg("dlogits"));
}

}  // namespace

void register_experts(py::module_& m) {
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
