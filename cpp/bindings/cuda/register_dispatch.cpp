#include <string>

#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "bindings/dispatch_calls.h"
#include "ops/cuda/dispatch.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

constexpr DeviceArrays kDispatch{"dispatch_by_expert"}, kCombine{"combine_by_expert"};

std::int64_t run_dispatch_workspace(std::int64_t events, std::int64_t k, std::int64_t batch,
                                    std::int64_t num_experts) {
    return dispatch_workspace(kDispatch.function, events, k, batch, num_experts);
}

void run_dispatch_offsets(const Object& offsets, const Object& expert_ids, std::int64_t num_experts,
                          std::int64_t capacity, const Object& workspace, const Object& parts,
                          const Object& status, std::uintptr_t stream) {
    const auto call = read_dispatch(kDispatch, offsets, expert_ids, num_experts, capacity);
    const auto workspace_view = kDispatch.view<std::uint8_t>("workspace", workspace);
    const auto parts_view = kDispatch.view<std::int64_t>("subsequence_offsets", parts);
    const auto status_view = kDispatch.view<std::int64_t>("status", status);
    const py::gil_scoped_release release;
    dispatch_offsets(kDispatch.function, call, workspace_view, parts_view, status_view,
                     as_stream(stream));
}

void run_dispatch_plan(const Object& offsets, const Object& expert_ids, std::int64_t num_experts,
                       std::int64_t capacity, const Object& workspace, const Object& parts,
                       const Object& index, const Object& slot, const Object& position,
                       std::uintptr_t stream) {
    const auto call = read_dispatch(kDispatch, offsets, expert_ids, num_experts, capacity);
    const auto workspace_view = kDispatch.view<std::uint8_t>("workspace", workspace);
    const auto parts_view = kDispatch.view<const std::int64_t>("subsequence_offsets", parts);
    const auto index_view = kDispatch.view<std::int64_t>("index", index);
    const auto slot_view = kDispatch.view<std::int64_t>("slot", slot);
    const auto position_view = kDispatch.view<std::int64_t>("position", position);
    const py::gil_scoped_release release;
    dispatch_plan(kDispatch.function, call, workspace_view, parts_view, index_view, slot_view,
                  position_view, as_stream(stream));
}

template <class T>
void run_dispatch_rows(const Object& values, const Object& position, const Object& weights,
                       const Object& other, const Object& rows, const Object& dots,
                       std::uintptr_t stream) {
    const auto call =
        read_dispatch_rows<T>(kDispatch, values, position, weights, other, rows, dots);
    const py::gil_scoped_release release;
    dispatch_rows(kDispatch.function, call, as_stream(stream));
}

template <class T>
void run_combine_rows(const Object& rows, const Object& position, const Object& weights,
                      const Object& other, const Object& sums, const Object& dots,
                      std::uintptr_t stream) {
    const auto call = read_combine_rows<T>(kCombine, rows, position, weights, other, sums, dots);
    const py::gil_scoped_release release;
    combine_rows(kCombine.function, call, as_stream(stream));
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    m.def(("dispatch_rows" + suffix).c_str(), &run_dispatch_rows<T>, py::arg("values"),
          py::arg("position"), py::arg("weights"), py::arg("other"), py::arg("rows"),
          py::arg("dots"), py::arg("stream"));
    m.def(("combine_rows" + suffix).c_str(), &run_combine_rows<T>, py::arg("rows"),
          py::arg("position"), py::arg("weights"), py::arg("other"), py::arg("sums"),
          py::arg("dots"), py::arg("stream"));
}

}  // namespace

void register_cuda_dispatch(py::module_& m) {
    m.def("dispatch_workspace", &run_dispatch_workspace, py::arg("events"), py::arg("k"),
          py::arg("batch"), py::arg("num_experts"));
    m.def("dispatch_offsets_i64", &run_dispatch_offsets, py::arg("offsets"), py::arg("expert_ids"),
          py::arg("num_experts"), py::arg("capacity"), py::arg("workspace"),
          py::arg("subsequence_offsets"), py::arg("status"), py::arg("stream"));
    m.def("dispatch_plan_i64", &run_dispatch_plan, py::arg("offsets"), py::arg("expert_ids"),
          py::arg("num_experts"), py::arg("capacity"), py::arg("workspace"),
          py::arg("subsequence_offsets"), py::arg("index"), py::arg("slot"), py::arg("position"),
          py::arg("stream"));
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
