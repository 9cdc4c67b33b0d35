#include <string>

#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "bindings/expert_calls.h"
#include "cpu/packed_matrix.h"
#include "ops/cuda/grouped_linear.h"
#include "ops/cuda/multi_gate.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

constexpr DeviceArrays kGrouped{"grouped_linear"}, kMixture{"multi_gate_mixture"};

template <class T>
void run_grouped_linear(const Object& x, const Object& weight, const Object& bias,
                        const Object& group_offsets, const Object& y, const std::string& precision,
                        std::uintptr_t stream) {
    const auto call = read_grouped_linear<T>(kGrouped, x, weight, bias, group_offsets, y);
    const Precision products = parse_precision(precision);
    const py::gil_scoped_release release;
    grouped_linear(kGrouped.function, call, products, as_stream(stream));
}

template <class T>
void run_grouped_linear_weight_grad(const Object& x, const Object& group_offsets, const Object& dy,
                                    const Object& dweight, const Object& dbias,
                                    const Object& workspace, std::uintptr_t stream) {
    const auto call = read_grouped_linear_grad<T>(kGrouped, x, py::none(), group_offsets, dy,
                                                  py::none(), dweight, dbias);
    const auto workspace_view = kGrouped.view<T>("workspace", workspace);
    const py::gil_scoped_release release;
    grouped_linear_weight_grad(kGrouped.function, call, workspace_view, as_stream(stream));
}

template <class T>
void run_multi_gate(std::int64_t experts, std::int64_t gates, const Object& expert_outputs,
                    const Object& gate_logits, const Object& mixture, const Object& shares,
                    std::uintptr_t stream) {
    const auto call =
        read_multi_gate_forward<T>(kMixture, experts, gates, expert_outputs, gate_logits, mixture);
    const auto shares_view = kMixture.view<T>("shares", shares);
    const py::gil_scoped_release release;
    multi_gate(kMixture.function, call, shares_view, as_stream(stream));
}

template <class T>
void run_multi_gate_grad(std::int64_t experts, std::int64_t gates, const Object& expert_outputs,
                         const Object& gate_logits, const Object& dmixture, const Object& dexpert,
                         const Object& dlogits, const Object& shares, std::uintptr_t stream) {
    const auto call = read_multi_gate_grad<T>(kMixture, experts, gates, expert_outputs, gate_logits,
                                              dmixture, dexpert, dlogits);
    const auto shares_view = kMixture.view<T>("shares", shares);
    const py::gil_scoped_release release;
    multi_gate_grad(kMixture.function, call, shares_view, as_stream(stream));
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    m.def(("grouped_linear" + suffix).c_str(), &run_grouped_linear<T>, py::arg("x"),
          py::arg("weight"), py::arg("bias"), py::arg("group_offsets"), py::arg("y"),
          py::arg("precision"), py::arg("stream"));
    m.def(("grouped_linear_weight_grad" + suffix).c_str(), &run_grouped_linear_weight_grad<T>,
          py::arg("x"), py::arg("group_offsets"), py::arg("dy"), py::arg("dweight"),
          py::arg("dbias"), py::arg("workspace"), py::arg("stream"));
    m.def(("multi_gate" + suffix).c_str(), &run_multi_gate<T>, py::arg("experts"), py::arg("gates"),
          py::arg("expert_outputs"), py::arg("gate_logits"), py::arg("mixture"), py::arg("shares"),
          py::arg("stream"));
    m.def(("multi_gate_grad" + suffix).c_str(), &run_multi_gate_grad<T>, py::arg("experts"),
          py::arg("gates"), py::arg("expert_outputs"), py::arg("gate_logits"), py::arg("dmixture"),
          py::arg("dexpert"), py::arg("dlogits"), py::arg("shares"), py::arg("stream"));
}

}  // namespace

void register_cuda_experts(py::module_& m) {
    m.def(
        "grouped_linear_workspace",
        [](std::int64_t rows, std::int64_t in, std::int64_t out) {
            return grouped_linear_workspace(kGrouped.function, rows, in, out);
        },
        py::arg("rows"), py::arg("in_features"), py::arg("out_features"));
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
