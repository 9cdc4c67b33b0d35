#include <string>

#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "bindings/dispatch_calls.h"
#include "ops/cuda/segment.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

template <class Time>
void run_segment_starts(const std::string& rule, const Object& offsets, const Object& times,
                        std::int64_t window, double gap, std::int64_t count, const Object& starts,
                        const Object& status, std::uintptr_t stream) {
    const DeviceArrays arrays{"session_segments"};
    const auto call = read_session_segments<Time>(arrays, rule, offsets, times, window, gap, count);
    const auto starts_view = arrays.view<std::uint8_t>("starts", starts);
    const auto status_view = arrays.view<std::int64_t>("status", status);
    const py::gil_scoped_release release;
    segment_starts(arrays.function, call, starts_view, status_view, as_stream(stream));
}

template <class T>
void run_segment_sum(const Object& values, const Object& segment_offsets, bool mean,
                     const Object& out, std::uintptr_t stream) {
    const DeviceArrays arrays{"segment_mean"};
    const auto call = read_segment_sum<T>(arrays, values, segment_offsets, mean, out);
    const py::gil_scoped_release release;
    segment_sum(arrays.function, call, as_stream(stream));
}

template <class T>
void run_expand_segments(const Object& per_segment, const Object& segment_offsets, bool mean,
                         const Object& out, std::uintptr_t stream) {
    const DeviceArrays arrays{"expand_segments"};
    const auto call = read_expand_segments<T>(arrays, per_segment, segment_offsets, mean, out);
    const py::gil_scoped_release release;
    expand_segments(arrays.function, call, as_stream(stream));
}

template <class T>
void run_route_segments(const Object& values, const Object& segment_offsets,
                        const Object& prototypes, std::int64_t k, const std::string& score,
                        const std::string& order, bool renormalize, const Object& bias,
                        const Object& mask, double scale, const Object& means, const Object& logits,
                        const Object& weights, const Object& ids, std::uintptr_t stream) {
    const DeviceArrays arrays{"route_segments"};
    const auto call =
        read_route_segments<T>(arrays, values, segment_offsets, prototypes, k, score, order,
                               renormalize, bias, mask, scale, means, logits, weights, ids);
    const py::gil_scoped_release release;
    route_segments(arrays.function, call, as_stream(stream));
}

template <class T>
void register_expand(py::module_& m, const char* name) {
    m.def(name, &run_expand_segments<T>, py::arg("per_segment"), py::arg("segment_offsets"),
          py::arg("mean"), py::arg("out"), py::arg("stream"));
}

template <class Time>
void register_starts(py::module_& m, const char* name) {
    m.def(name, &run_segment_starts<Time>, py::arg("rule"), py::arg("offsets"), py::arg("times"),
          py::arg("window"), py::arg("gap"), py::arg("count"), py::arg("starts"), py::arg("status"),
          py::arg("stream"));
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    m.def(("segment_sum" + suffix).c_str(), &run_segment_sum<T>, py::arg("values"),
          py::arg("segment_offsets"), py::arg("mean"), py::arg("out"), py::arg("stream"));
    register_expand<T>(m, ("expand_segments" + suffix).c_str());
    m.def(("route_segments" + suffix).c_str(), &run_route_segments<T>, py::arg("values"),
          py::arg("segment_offsets"), py::arg("prototypes"), py::arg("k"), py::arg("score"),
          py::arg("order"), py::arg("renormalize"), py::arg("bias"), py::arg("mask"),
          py::arg("scale"), py::arg("means"), py::arg("logits"), py::arg("weights"), py::arg("ids"),
          py::arg("stream"));
}

}  // namespace

void register_cuda_segments(py::module_& m) {
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
    register_starts<double>(m, "segment_starts_f64");
    register_starts<std::int64_t>(m, "segment_starts_i64");
    register_expand<std::int64_t>(m, "expand_segments_i64");
}

}  // namespace seqrec_fast
