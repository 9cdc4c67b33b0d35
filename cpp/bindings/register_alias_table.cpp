#include "bindings/array_caster.h"
#include "bindings/register.h"
#include "ops/alias_table.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

AliasTable make_table(const py::object& probabilities) {
    const auto view = matrix_view<const double>("AliasTable", "probabilities", probabilities);
    const py::gil_scoped_release release;
    return AliasTable(view);
}

py::array_t<std::int64_t> run_draw(const AliasTable& table, std::int64_t n, std::uint64_t seed,
                                   std::uint64_t counter, bool ordered) {
    std::vector<std::int64_t> ids;
    {
        const py::gil_scoped_release release;
        ids = table.draw(n, seed, counter, ordered);
    }
    return py::array_t<std::int64_t>(static_cast<py::ssize_t>(ids.size()), ids.data());
}

py::tuple slots_of(const AliasTable& table) {
    const auto n = static_cast<py::ssize_t>(table.slots().size());
    py::array_t<std::uint64_t> thresholds(n);
    py::array_t<std::int64_t> aliases(n);
    for (py::ssize_t i = 0; i < n; ++i) {
        const AliasSlot& slot = table.slots()[static_cast<std::size_t>(i)];
        thresholds.mutable_at(i) = slot.threshold;
        aliases.mutable_at(i) = slot.alias;
    }
    return py::make_tuple(thresholds, aliases);
}

}  // namespace

void register_alias_table(py::module_& m) {
    py::class_<AliasTable>(m, "AliasTable")
        .def(py::init(&make_table), py::arg("probabilities"))
        .def("draw", &run_draw, py::arg("n"), py::arg("seed"), py::arg("counter"),
             py::arg("ordered"))
        .def("slots", &slots_of)
        .def("__len__", [](const AliasTable& table) { return table.slots().size(); });
}

}  // namespace seqrec_fast
