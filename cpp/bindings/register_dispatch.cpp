#include <string>
#include <vector>

#include "bindings/array_caster.h"
#include "bindings/dispatch_calls.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

// (index, slot, offsets, position), see args/dispatch_args.h.
py::tuple run_dispatch_by_expert(const Object& offsets, const Object& expert_ids,
                                 std::int64_t num_experts, std::int64_t capacity) {
    const char* const kName = "dispatch_by_expert";
    const DispatchByExpert call =
        read_dispatch(Arrays{kName}, offsets, expert_ids, num_experts, capacity);
    std::vector<std::int64_t> parts;
    {
        const py::gil_scoped_release release;
        parts = dispatch_offsets(kName, call);
    }
    py::array_t<std::int64_t> index(parts.back()), slot(parts.back());
    py::array_t<std::int64_t> position({call.expert_ids.rows, call.expert_ids.columns});
    std::int64_t* const places[] = {index.mutable_data(), slot.mutable_data(),
                                    position.mutable_data()};
    {
        const py::gil_scoped_release release;
        dispatch_plan(call, parts, places[0], places[1], places[2]);
    }
    return py::make_tuple(index, slot, array_of(parts), position);
}

template <class T>
void run_dispatch_rows(const Object& values, const Object& position, const Object& weights,
                       const Object& other, const Object& rows, const Object& dots) {
    const char* const kName = "dispatch_by_expert";
    const auto call =
        read_dispatch_rows<T>(Arrays{kName}, values, position, weights, other, rows, dots);
    const py::gil_scoped_release release;
    dispatch_rows(kName, call);
}

template <class T>
void run_combine_rows(const Object& rows, const Object& position, const Object& weights,
                      const Object& other, const Object& sums, const Object& dots) {
    const char* const kName = "combine_by_expert";
    const auto call =
        read_combine_rows<T>(Arrays{kName}, rows, position, weights, other, sums, dots);
    const py::gil_scoped_release release;
    combine_rows(kName, call);
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    const auto name = [&](const char* function) { return function + suffix; };
    m.def(name("dispatch_rows").c_str(), &run_dispatch_rows<T>, py::arg("values"),
          py::arg("position"), py::arg("weights"), py::arg("other"), py::arg("rows"),
          py::arg("dots"));
    m.def(name("combine_rows").c_str(), &run_combine_rows<T>, py::arg("rows"), py::arg("position"),
          py::arg("weights"), py::arg("other"), py::arg("sums"), py::arg("dots"));
}

}  // namespace

void register_dispatch(py::module_& m) {
    m.def("dispatch_by_expert", &run_dispatch_by_expert, py::arg("offsets"), py::arg("expert_ids"),
          py::arg("num_experts"), py::arg("capacity"));
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
