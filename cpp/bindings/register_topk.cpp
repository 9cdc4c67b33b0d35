#include "bindings/array_caster.h"
#include "bindings/register.h"
#include "ops/topk.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

PackedItems pack(const std::string& function, const Object& items, const Object& bias) {
    const char* const kName = function.c_str();
    const auto items_view = matrix_view<const float>(kName, "items", items);
    const auto bias_view = matrix_view<const float>(kName, "bias", bias);
    const py::gil_scoped_release release;
    return pack_items(kName, items_view, bias_view);
}

void run(const PackedItems& items, const Object& queries, std::int64_t k, const Object& excluded,
         const Object& exclude_offsets, const Object& scores, const Object& ids) {
    const char* const kName = "topk";
    Topk call;
    call.items = &items;
    call.queries = matrix_view<const float>(kName, "queries", queries);
    call.k = k;
    call.excluded = matrix_view<const std::int64_t>(kName, "exclude values", excluded);
    call.exclude_offsets =
        matrix_view<const std::int64_t>(kName, "exclude offsets", exclude_offsets);
    call.scores = matrix_view<float>(kName, "scores", scores);
    call.ids = matrix_view<std::int64_t>(kName, "ids", ids);
    const py::gil_scoped_release release;
    topk(kName, call);
}

}  // namespace

void register_topk(py::module_& m) {
    py::class_<PackedItems>(m, "PackedItems")
        .def(py::init(&pack), py::arg("function"), py::arg("items"), py::arg("bias"))
        .def_property_readonly("n_items", &PackedItems::n_items)
        .def_property_readonly("dim", &PackedItems::dim)
        .def_property_readonly("nbytes", &PackedItems::nbytes)
        .def("topk", &run, py::arg("queries"), py::arg("k"), py::arg("excluded"),
             py::arg("exclude_offsets"), py::arg("scores"), py::arg("ids"));
}

}  // namespace seqrec_fast
