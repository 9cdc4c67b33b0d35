// One function per part of the extension with CUDA kernels; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace seqrec_fast {

void register_cuda_gate(pybind11::module_& m);
void register_cuda_loss(pybind11::module_& m);
void register_cuda_sampled_loss(pybind11::module_& m);
void register_cuda_topk(pybind11::module_& m);

}  // namespace seqrec_fast
