#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "ops/cuda/topk.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

void run_topk(const Object& queries, const Object& items, const Object& bias, std::int64_t k,
              const Object& excluded, const Object& exclude_offsets, const Object& allowed,
              const Object& workspace, const Object& scores, const Object& ids,
              std::uintptr_t stream) {
    const TopkOfRows call{
        device_view<const float>("topk", "queries", queries),
        device_view<const float>("topk", "items", items),
        device_view<const float>("topk", "bias", bias),
        k,
        device_view<const std::int64_t>("topk", "exclude", excluded),
        device_view<const std::int64_t>("topk", "the offsets of exclude", exclude_offsets),
        device_view<const std::uint8_t>("topk", "allow", allowed),
        device_view<std::int64_t>("topk", "workspace", workspace),
        device_view<float>("topk", "scores", scores),
        device_view<std::int64_t>("topk", "ids", ids)};
    const py::gil_scoped_release release;
    topk(call, as_stream(stream));
}

}  // namespace

void register_cuda_topk(py::module_& m) {
    m.def("topk_workspace", &topk_workspace, py::arg("n_queries"), py::arg("n_items"),
          py::arg("dim"), py::arg("k"));
    m.def("topk_f32", &run_topk, py::arg("queries"), py::arg("items"), py::arg("bias"),
          py::arg("k"), py::arg("excluded"), py::arg("exclude_offsets"), py::arg("allowed"),
          py::arg("workspace"), py::arg("scores"), py::arg("ids"), py::arg("stream"));
}

}  // namespace seqrec_fast
