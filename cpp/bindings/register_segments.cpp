#include <string>

#include "bindings/array_caster.h"
#include "bindings/dispatch_calls.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

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
void register_for(py::module_& m, const std::string& suffix) {
    const auto name = [&](const char* function) { return function + suffix; };
    m.def(name("segment_sum").c_str(), &run_segment_sum<T>, py::arg("values"),
          py::arg("segment_offsets"), py::arg("mean"), py::arg("out"));
    m.def(name("expand_segments").c_str(), &run_expand_segments<T>, py::arg("per_segment"),
          py::arg("segment_offsets"), py::arg("mean"), py::arg("out"));
    m.def(name("route_segments").c_str(), &run_route_segments<T>, py::arg("values"),
          py::arg("segment_offsets"), py::arg("prototypes"), py::arg("k"), py::arg("score"),
          py::arg("order"), py::arg("renormalize"), py::arg("bias"), py::arg("mask"),
          py::arg("scale"), py::arg("means"), py::arg("logits"), py::arg("weights"),
          py::arg("ids"));
}

template <class Time>
void register_cuts(py::module_& m, const char* name) {
    m.def(name, &run_session_segments<Time>, py::arg("rule"), py::arg("offsets"), py::arg("times"),
          py::arg("window"), py::arg("gap"), py::arg("count"));
}

}  // namespace

void register_segments(py::module_& m) {
    register_cuts<double>(m, "session_segments_f64");
    register_cuts<std::int64_t>(m, "session_segments_i64");
    m.def("expand_segments_i64", &run_expand_segments<std::int64_t>, py::arg("per_segment"),
          py::arg("segment_offsets"), py::arg("mean"), py::arg("out"));
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
