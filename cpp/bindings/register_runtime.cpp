#include <pybind11/stl.h>

#include "base/build_info.h"
#include "base/parallel.h"
#include "base/targets.h"
#include "bindings/register.h"
#include "cpu/dot_backends.h"

namespace seqrec_fast {
namespace {

std::vector<std::string> names(const std::vector<Target>& targets) {
    std::vector<std::string> result;
    for (const Target target : targets) {
        result.emplace_back(target_name(target));
    }
    return result;
}

}  // namespace

void register_runtime(pybind11::module_& m) {
    namespace py = pybind11;
    m.attr("__version__") = kVersion;
    m.def("build_info", [] {
        py::dict info;
        info["version"] = kVersion;
        info["compiler"] = kCompiler;
        info["compiler_flags"] = kCompilerFlags;
        info["highway"] = kHighwayVersion;
        info["cuda"] = kCudaStatus;
        return info;
    });
    m.def("compiled_targets", [] { return names(compiled_targets()); });
    m.def("supported_targets", [] { return names(supported_targets()); });
    m.def("active_target", [] { return std::string(target_name(active_target())); });
    m.def("force_target", &force_target, py::arg("name"));
    m.def("supported_backends", [](const std::string& precision) {
        std::vector<std::string> result;
        for (const DotBackend* backend : supported_dot_backends(parse_dot_type(precision))) {
            result.emplace_back(backend->name);
        }
        return result;
    });
    m.def("active_backend", [](const std::string& precision) {
        return std::string(active_dot_backend(parse_dot_type(precision)).name);
    });
    m.def("force_backend", [](const std::string& precision, const std::string& name) {
        force_dot_backend(parse_dot_type(precision), name);
    });
    m.def("num_threads", &num_threads);
    m.def("set_num_threads", &set_num_threads, py::arg("n"));
}

}  // namespace seqrec_fast
