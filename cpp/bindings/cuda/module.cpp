#include "bindings/cuda/register.h"

#include <pybind11/stl.h>

#include "bindings/cuda/device_array.h"
#if defined(SEQREC_SIMT_EMULATION)
#include "cuda/device.h"
#endif

// _cuda, or _cuda_emulated: the same kernels on emulated threads and the memory of the CPU.
PYBIND11_MODULE(SEQREC_CUDA_MODULE, m, pybind11::mod_gil_not_used()) {
    namespace py = pybind11;
    using seqrec_fast::DeviceArray;
    m.doc() = "CUDA kernels of seqrec_fast. Not public: use the seqrec_fast package.";
    py::class_<DeviceArray>(m, "DeviceArray")
        .def(py::init(
                 [](std::uintptr_t address, std::string dtype, std::vector<std::int64_t> shape) {
                     return DeviceArray{address, std::move(dtype), std::move(shape)};
                 }),
             py::arg("address"), py::arg("dtype"), py::arg("shape"));
#if defined(SEQREC_SIMT_EMULATION)
    m.def(
        "set_device",
        [](int multiprocessors, std::size_t shared_bytes, unsigned most_cluster,
           unsigned hosted_cluster) {
            seqrec_fast::cuda::emulated_device() = {multiprocessors, shared_bytes, most_cluster,
                                                    hosted_cluster};
        },
        py::arg("multiprocessors") = 2, py::arg("shared_bytes") = std::size_t{64} << 10,
        py::arg("most_cluster") = 4, py::arg("hosted_cluster") = 4);
#endif
    seqrec_fast::register_cuda_dispatch(m);
    seqrec_fast::register_cuda_experts(m);
    seqrec_fast::register_cuda_gate(m);
    seqrec_fast::register_cuda_rnn(m);
    seqrec_fast::register_cuda_cross_entropy(m);
    seqrec_fast::register_cuda_cross_entropy_tensor(m);
    seqrec_fast::register_cuda_sampled_loss(m);
    seqrec_fast::register_cuda_topk(m);
    seqrec_fast::register_cuda_row_update(m);
    seqrec_fast::register_cuda_segments(m);
}
