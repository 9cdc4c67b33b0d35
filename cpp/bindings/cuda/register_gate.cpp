#include <string>

#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "bindings/gate_call.h"
#include "ops/cuda/gate.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

template <class T>
void run_gate(const Object& logits, std::int64_t k, const std::string& score,
              const std::string& order, bool renormalize, const Object& bias, const Object& mask,
              double scale, const Object& weights, const Object& ids, std::uintptr_t stream) {
    const DeviceArrays reader{"expert_gate"};
    const auto call =
        read_gate_call<T>(reader, logits, k, score, order, renormalize, bias, mask, scale);
    const auto weights_view = reader.view<T>("weights", weights);
    const auto ids_view = reader.view<std::int64_t>("ids", ids);
    const py::gil_scoped_release release;
    expert_gate(call, weights_view, ids_view, as_stream(stream));
}

template <class T>
void run_gate_grad(const Object& logits, std::int64_t k, const std::string& score,
                   const std::string& order, bool renormalize, const Object& bias,
                   const Object& mask, double scale, const Object& ids, const Object& weights,
                   const Object& dweights, const Object& dlogits, std::uintptr_t stream) {
    const DeviceArrays reader{"expert_gate"};
    const auto call =
        read_gate_call<T>(reader, logits, k, score, order, renormalize, bias, mask, scale);
    const auto ids_view = reader.view<const std::int64_t>("ids", ids);
    const auto weights_view = reader.view<const T>("weights", weights);
    const auto dweights_view = reader.view<const T>("dweights", dweights);
    const auto dlogits_view = reader.view<T>("dlogits", dlogits);
    const py::gil_scoped_release release;
    expert_gate_grad(call, ids_view, weights_view, dweights_view, dlogits_view, as_stream(stream));
}

void run_noise(const std::string& noise, std::uint64_t seed, std::uint32_t step,
               const Object& values, std::uintptr_t stream) {
    const GateNoise kind = parse_gate_noise(noise);
    const auto view = device_view<float>("gate_noise", "values", values);
    const py::gil_scoped_release release;
    gate_noise(kind, seed, step, view, as_stream(stream));
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    m.def(("expert_gate" + suffix).c_str(), &run_gate<T>, py::arg("logits"), py::arg("k"),
          py::arg("score"), py::arg("order"), py::arg("renormalize"), py::arg("bias"),
          py::arg("mask"), py::arg("scale"), py::arg("weights"), py::arg("ids"), py::arg("stream"));
    m.def(("expert_gate_grad" + suffix).c_str(), &run_gate_grad<T>, py::arg("logits"), py::arg("k"),
          py::arg("score"), py::arg("order"), py::arg("renormalize"), py::arg("bias"),
          py::arg("mask"), py::arg("scale"), py::arg("ids"), py::arg("weights"),
          py::arg("dweights"), py::arg("dlogits"), py::arg("stream"));
}

}  // namespace

void register_cuda_gate(py::module_& m) {
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
    m.def("gate_noise", &run_noise, py::arg("noise"), py::arg("seed"), py::arg("step"),
          py::arg("values"), py::arg("stream"));
}

}  // namespace seqrec_fast
