// One function per part of the package; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

namespace seqrec_fast {

void register_runtime(pybind11::module_& m);
void register_alias_table(pybind11::module_& m);
void register_dispatch(pybind11::module_& m);
void register_experts(pybind11::module_& m);
void register_gate(pybind11::module_& m);
void register_cross_entropy(pybind11::module_& m);
void register_rnn(pybind11::module_& m);
void register_rnn_experts(pybind11::module_& m);
void register_rnn_stack(pybind11::module_& m);
void register_row_update(pybind11::module_& m);
void register_sampled_loss(pybind11::module_& m);
void register_segments(pybind11::module_& m);
void register_session_step(pybind11::module_& m);
void register_sessions(pybind11::module_& m);
void register_topk(pybind11::module_& m);

}  // namespace seqrec_fast
