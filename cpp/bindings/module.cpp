#include "bindings/register.h"

PYBIND11_MODULE(_core, m, pybind11::mod_gil_not_used()) {
    m.doc() = "Compiled kernels of seqrec_fast. Not public: use the seqrec_fast package.";
    seqrec_fast::register_runtime(m);
    seqrec_fast::register_alias_table(m);
    seqrec_fast::register_dispatch(m);
    seqrec_fast::register_experts(m);
    seqrec_fast::register_gate(m);
    seqrec_fast::register_cross_entropy(m);
    seqrec_fast::register_rnn(m);
    seqrec_fast::register_rnn_experts(m);
    seqrec_fast::register_rnn_stack(m);
    seqrec_fast::register_row_update(m);
    seqrec_fast::register_sampled_loss(m);
    seqrec_fast::register_segments(m);
    seqrec_fast::register_session_step(m);
    seqrec_fast::register_topk(m);
    seqrec_fast::register_sessions(m);
}
