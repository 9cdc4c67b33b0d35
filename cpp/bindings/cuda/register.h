// One function per part of the extension with CUDA kernels; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace seqrec_fast {

void register_cuda_dispatch(pybind11::module_& m);
void register_cuda_experts(pybind11::module_& m);
void register_cuda_gate(pybind11::module_& m);
void register_cuda_rnn(pybind11::module_& m);
void register_cuda_cross_entropy(pybind11::module_& m);
void register_cuda_cross_entropy_tensor(pybind11::module_& m);
void register_cuda_sampled_loss(pybind11::module_& m);
void register_cuda_topk(pybind11::module_& m);
void register_cuda_row_update(pybind11::module_& m);
void register_cuda_segments(pybind11::module_& m);

}  // namespace seqrec_fast
