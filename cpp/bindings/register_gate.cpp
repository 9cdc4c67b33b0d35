#include <string>

#include "bindings/array_caster.h"
#include "bindings/gate_call.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

constexpr const char* kName = "expert_gate";

template <class T>
void run_gate(const Object& logits, std::int64_t k, const std::string& score,
              const std::string& order, bool renormalize, const Object& bias, const Object& mask,
              double scale, const Object& weights, const Object& ids) {
    const auto call =
        read_gate_call<T>(Arrays{kName}, logits, k, score, order, renormalize, bias, mask, scale);
    const auto weights_view = matrix_view<T>(kName, "weights", weights);
    const auto ids_view = matrix_view<std::int64_t>(kName, "ids", ids);
    const py::gil_scoped_release release;
    expert_gate(call, weights_view, ids_view);
}

template <class T>
void run_gate_grad(const Object& logits, std::int64_t k, const std::string& score,
                   const std::string& order, bool renormalize, const Object& bias,
                   const Object& mask, double scale, const Object& ids, const Object& weights,
                   const Object& dweights, const Object& dlogits) {
    const auto call =
        read_gate_call<T>(Arrays{kName}, logits, k, score, order, renormalize, bias, mask, scale);
    const auto ids_view = matrix_view<const std::int64_t>(kName, "ids", ids);
    const auto weights_view = matrix_view<const T>(kName, "weights", weights);
    const auto dweights_view = matrix_view<const T>(kName, "dweights", dweights);
    const auto dlogits_view = matrix_view<T>(kName, "dlogits", dlogits);
    const py::gil_scoped_release release;
    expert_gate_grad(call, ids_view, weights_view, dweights_view, dlogits_view);
}

void run_noise(const std::string& noise, std::uint64_t seed, std::uint32_t step,
               const Object& values) {
    const GateNoise kind = parse_gate_noise(noise);
    const auto view = matrix_view<float>("gate_noise", "values", values);
    const py::gil_scoped_release release;
    gate_noise(kind, seed, step, view);
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    m.def(("expert_gate" + suffix).c_str(), &run_gate<T>, py::arg("logits"), py::arg("k"),
          py::arg("score"), py::arg("order"), py::arg("renormalize"), py::arg("bias"),
          py::arg("mask"), py::arg("scale"), py::arg("weights"), py::arg("ids"));
    m.def(("expert_gate_grad" + suffix).c_str(), &run_gate_grad<T>, py::arg("logits"), py::arg("k"),
          py::arg("score"), py::arg("order"), py::arg("renormalize"), py::arg("bias"),
          py::arg("mask"), py::arg("scale"), py::arg("ids"), py::arg("weights"),
          py::arg("dweights"), py::arg("dlogits"));
}

}  // namespace

void register_gate(py::module_& m) {
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
    m.def("gate_noise", &run_noise, py::arg("noise"), py::arg("seed"), py::arg("step"),
          py::arg("values"));
}

}  // namespace seqrec_fast
