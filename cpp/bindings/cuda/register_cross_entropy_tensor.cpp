#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "ops/cuda/cross_entropy_tensor.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

const DeviceArrays kArrays{"linear_cross_entropy"};

TensorCrossEntropy read(const Object& hidden, const Object& weight, const Object& bias,
                        const Object& target, double scale, double softcap, double label_smoothing,
                        const Object& log_sum) {
    return {kArrays.view<const std::uint16_t>("hidden", hidden),
            kArrays.view<const std::uint16_t>("weight", weight),
            kArrays.view<const float>("bias", bias),
            kArrays.view<const std::int64_t>("target", target),
            scale,
            softcap,
            label_smoothing,
            kArrays.view<float>("log_sum", log_sum)};
}

GradientView read_gradient(const char* argument, const Object& object) {
    const bool rounded = py::isinstance<DeviceArray>(object) &&
                         py::cast<const DeviceArray&>(object).dtype == "bfloat16";
    if (rounded) {
        return {{}, kArrays.view<std::uint16_t>(argument, object)};
    }
    return {kArrays.view<float>(argument, object), {}};
}

void run_forward(const Object& hidden, const Object& weight, const Object& bias,
                 const Object& target, double scale, double softcap, double label_smoothing,
                 const Object& loss, const Object& log_sum, const Object& workspace,
                 std::uintptr_t stream) {
    const TensorCrossEntropy call =
        read(hidden, weight, bias, target, scale, softcap, label_smoothing, log_sum);
    const auto losses = kArrays.view<float>("loss", loss);
    const auto room = kArrays.view<std::uint8_t>("workspace", workspace);
    const py::gil_scoped_release release;
    cross_entropy_tensor(kArrays.function, call, losses, room, as_stream(stream));
}

void run_grad(const Object& hidden, const Object& weight, const Object& bias, const Object& target,
              double scale, double softcap, double label_smoothing, const Object& log_sum,
              const Object& row_grad, const Object& dhidden, const Object& dweight,
              const Object& dbias, const Object& workspace, std::uintptr_t stream) {
    const TensorCrossEntropyGrad call{
        read(hidden, weight, bias, target, scale, softcap, label_smoothing, log_sum),
        kArrays.view<const float>("row_grad", row_grad), read_gradient("dhidden", dhidden),
        read_gradient("dweight", dweight), kArrays.view<float>("dbias", dbias)};
    const auto room = kArrays.view<std::uint8_t>("workspace", workspace);
    const py::gil_scoped_release release;
    cross_entropy_tensor_grad(kArrays.function, call, room, as_stream(stream));
}

}  // namespace

void register_cuda_cross_entropy_tensor(py::module_& m) {
    m.def("cross_entropy_tensor_workspace", &cross_entropy_tensor_workspace, py::arg("rows"),
          py::arg("items"), py::arg("dim"));
    m.def("cross_entropy_tensor_grad_workspace", &cross_entropy_tensor_grad_workspace,
          py::arg("rows"), py::arg("items"), py::arg("dim"));
    m.def("cross_entropy_tensor", &run_forward, py::arg("hidden"), py::arg("weight"),
          py::arg("bias"), py::arg("target"), py::arg("scale"), py::arg("softcap"),
          py::arg("label_smoothing"), py::arg("loss"), py::arg("log_sum"), py::arg("workspace"),
          py::arg("stream"));
    m.def("cross_entropy_tensor_grad", &run_grad, py::arg("hidden"), py::arg("weight"),
          py::arg("bias"), py::arg("target"), py::arg("scale"), py::arg("softcap"),
          py::arg("label_smoothing"), py::arg("log_sum"), py::arg("row_grad"), py::arg("dhidden"),
          py::arg("dweight"), py::arg("dbias"), py::arg("workspace"), py::arg("stream"));
}

}  // namespace seqrec_fast
