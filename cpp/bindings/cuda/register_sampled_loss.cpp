#include <string>

#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "ops/cuda/sampled_loss.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

template <class T>
void run_sampled_loss(const std::string& function, const std::string& kind,
                      const std::string& collisions, const Object& bias, const Object& target,
                      const Object& negatives, const Object& log_q, const Object& target_log_q,
                      double scale, double elu, double regularization, double beta,
                      const Object& target_products, const Object& products, const Object& loss,
                      const Object& row_grad, const Object& dtarget_scores, std::uintptr_t stream) {
    const char* const name = function.c_str();
    const SampledRows<T> call{parse_sampled_loss(kind),
                              parse_collisions(collisions),
                              device_view<const T>(name, "bias", bias),
                              device_view<const std::int64_t>(name, "target", target),
                              device_view<const std::int64_t>(name, "negatives", negatives),
                              device_view<const T>(name, "log_q", log_q),
                              device_view<const T>(name, "target_log_q", target_log_q),
                              scale,
                              elu,
                              regularization,
                              beta,
                              device_view<const T>(name, "target_products", target_products),
                              device_view<T>(name, "products", products),
                              device_view<T>(name, "loss", loss),
                              device_view<const T>(name, "row_grad", row_grad),
                              device_view<T>(name, "dtarget_scores", dtarget_scores)};
    const py::gil_scoped_release release;
    sampled_loss_rows(name, call, as_stream(stream));
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    m.def(("sampled_loss_rows" + suffix).c_str(), &run_sampled_loss<T>, py::arg("function"),
          py::arg("kind"), py::arg("collisions"), py::arg("bias"), py::arg("target"),
          py::arg("negatives"), py::arg("log_q"), py::arg("target_log_q"), py::arg("scale"),
          py::arg("elu"), py::arg("regularization"), py::arg("beta"), py::arg("target_products"),
          py::arg("products"), py::arg("loss"), py::arg("row_grad"), py::arg("dtarget_scores"),
          py::arg("stream"));
}

}  // namespace

void register_cuda_sampled_loss(py::module_& m) {
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
