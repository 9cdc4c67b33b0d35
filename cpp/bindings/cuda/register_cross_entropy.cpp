#include <string>

#include "bindings/cross_entropy_call.h"
#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "ops/cuda/cross_entropy.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

const DeviceArrays kArrays{"linear_cross_entropy"};

template <class T>
void run_cross_entropy(const Object& hidden, const Object& weight, const Object& bias,
                       const Object& target, double scale, double softcap, double label_smoothing,
                       const std::string& precision, const Object& loss, const Object& log_sum,
                       const Object& workspace, std::uintptr_t stream) {
    CrossEntropy<T> call = read_cross_entropy<T>(kArrays, hidden, weight, bias, target, scale,
                                                 softcap, label_smoothing, precision, log_sum);
    call.loss = kArrays.view<T>("loss", loss);
    const auto room = kArrays.view<T>("workspace", workspace);
    const py::gil_scoped_release release;
    cross_entropy(kArrays.function, call, room, as_stream(stream));
}

template <class T>
void run_score_grad(const Object& hidden, const Object& weight, const Object& bias,
                    const Object& target, double scale, double softcap, double label_smoothing,
                    const std::string& precision, const Object& log_sum, const Object& row_grad,
                    std::int64_t first_item, const Object& dscores, std::uintptr_t stream) {
    const ScoreGrad<T> call{read_cross_entropy<T>(kArrays, hidden, weight, bias, target, scale,
                                                  softcap, label_smoothing, precision, log_sum),
                            kArrays.view<const T>("row_grad", row_grad), first_item,
                            kArrays.view<T>("dscores", dscores)};
    const py::gil_scoped_release release;
    cross_entropy_score_grad(kArrays.function, call, as_stream(stream));
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    m.def(("cross_entropy_workspace" + suffix).c_str(), &cross_entropy_workspace<T>,
          py::arg("rows"), py::arg("items"));
    m.def(("cross_entropy" + suffix).c_str(), &run_cross_entropy<T>, py::arg("hidden"),
          py::arg("weight"), py::arg("bias"), py::arg("target"), py::arg("scale"),
          py::arg("softcap"), py::arg("label_smoothing"), py::arg("precision"), py::arg("loss"),
          py::arg("log_sum"), py::arg("workspace"), py::arg("stream"));
    m.def(("cross_entropy_score_grad" + suffix).c_str(), &run_score_grad<T>, py::arg("hidden"),
          py::arg("weight"), py::arg("bias"), py::arg("target"), py::arg("scale"),
          py::arg("softcap"), py::arg("label_smoothing"), py::arg("precision"), py::arg("log_sum"),
          py::arg("row_grad"), py::arg("first_item"), py::arg("dscores"), py::arg("stream"));
}

}  // namespace

void register_cuda_cross_entropy(py::module_& m) {
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
