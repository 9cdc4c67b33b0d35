#include <string>
#include <vector>

#include "bindings/array_caster.h"
#include "bindings/dispatch_calls.h"
#include "bindings/expert_calls.h"
#include "bindings/register.h"
#include "ops/grouped_linear.h"
#include "ops/multi_gate.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;
using Ids = py::array_t<std::int64_t>;

Ids array_of(const std::vector<std::int64_t>& values) {
    return Ids(static_cast<py::ssize_t>(values.size()), values.data());
}

// (index, slot, offsets, position), see cpu/dispatch_kernels.h.
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
    Ids index(parts.back()), slot(parts.back());
    Ids position({call.expert_ids.rows, call.expert_ids.columns});
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

template <class Time>
py::tuple run_session_segments(const std::string& rule, const Object& offsets, const Object& times,
                               std::int64_t window, double gap, std::int64_t count) {
    const char* const kName = "session_segments";
    const auto call =
        read_session_segments<Time>(Arrays{kName}, rule, offsets, times, window, gap, count);
    SegmentCuts cuts;
    {
        const py::gil_scoped_release release;
        cuts = session_segments(kName, call);
    }
    return py::make_tuple(array_of(cuts.offsets), array_of(cuts.sequence_offsets));
}

template <class T>
void run_segment_sum(const Object& values, const Object& segment_offsets, bool mean,
                     const Object& out) {
    const char* const kName = "segment_mean";
    const auto call = read_segment_sum<T>(Arrays{kName}, values, segment_offsets, mean, out);
    const py::gil_scoped_release release;
    segment_sum(kName, call);
}

template <class T>
void run_expand_segments(const Object& per_segment, const Object& segment_offsets, bool mean,
                         const Object& out) {
    const char* const kName = "expand_segments";
    const auto call =
        read_expand_segments<T>(Arrays{kName}, per_segment, segment_offsets, mean, out);
    const py::gil_scoped_release release;
    expand_segments(kName, call);
}

template <class T>
void run_route_segments(const Object& values, const Object& segment_offsets,
                        const Object& prototypes, std::int64_t k, const std::string& score,
                        const std::string& order, bool renormalize, const Object& bias,
                        const Object& mask, double scale, const Object& means, const Object& logits,
                        const Object& weights, const Object& ids) {
    const char* const kName = "route_segments";
    const auto call =
        read_route_segments<T>(Arrays{kName}, values, segment_offsets, prototypes, k, score, order,
                               renormalize, bias, mask, scale, means, logits, weights, ids);
    const py::gil_scoped_release release;
    route_segments(kName, call);
}

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
    m.def(name("dispatch_rows").c_str(), &run_dispatch_rows<T>, py::arg("values"),
          py::arg("position"), py::arg("weights"), py::arg("other"), py::arg("rows"),
          py::arg("dots"));
    m.def(name("combine_rows").c_str(), &run_combine_rows<T>, py::arg("rows"), py::arg("position"),
          py::arg("weights"), py::arg("other"), py::arg("sums"), py::arg("dots"));
    m.def(name("segment_sum").c_str(), &run_segment_sum<T>, py::arg("values"),
          py::arg("segment_offsets"), py::arg("mean"), py::arg("out"));
    m.def(name("expand_segments").c_str(), &run_expand_segments<T>, py::arg("per_segment"),
          py::arg("segment_offsets"), py::arg("mean"), py::arg("out"));
    m.def(name("route_segments").c_str(), &run_route_segments<T>, py::arg("values"),
          py::arg("segment_offsets"), py::arg("prototypes"), py::arg("k"), py::arg("score"),
          py::arg("order"), py::arg("renormalize"), py::arg("bias"), py::arg("mask"),
          py::arg("scale"), py::arg("means"), py::arg("logits"), py::arg("weights"),
          py::arg("ids"));
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

template <class Time>
void register_segments(py::module_& m, const char* name) {
    m.def(name, &run_session_segments<Time>, py::arg("rule"), py::arg("offsets"), py::arg("times"),
          py::arg("window"), py::arg("gap"), py::arg("count"));
}

}  // namespace

void register_dispatch(py::module_& m) {
    m.def("dispatch_by_expert", &run_dispatch_by_expert, py::arg("offsets"), py::arg("expert_ids"),
          py::arg("num_experts"), py::arg("capacity"));
    register_segments<double>(m, "session_segments_f64");
    register_segments<std::int64_t>(m, "session_segments_i64");
    m.def("expand_segments_i64", &run_expand_segments<std::int64_t>, py::arg("per_segment"),
          py::arg("segment_offsets"), py::arg("mean"), py::arg("out"));
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
