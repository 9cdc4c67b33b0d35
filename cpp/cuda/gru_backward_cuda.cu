// GRU backward on a GPU.
#include "cuda/rnn_backward.h"

namespace seqrec_fast {

template <class S>
void gru_backward_cuda(const RnnLoopGradArgs<S>& args, cudaStream_t stream) {
    switch (args.kind) {
        case CellKind::gru_reset_before:
            return cuda::run_backward<cuda::GruResetBeforeLoopCell>(args, stream);
        default: return cuda::run_backward<cuda::GruLoopCell<CellKind::gru>>(args, stream);
    }
}

template void gru_backward_cuda(const RnnLoopGradArgs<float>&, cudaStream_t);
template void gru_backward_cuda(const RnnLoopGradArgs<double>&, cudaStream_t);
template void gru_backward_cuda(const RnnLoopGradArgs<Bfloat16>&, cudaStream_t);
template void gru_backward_cuda(const RnnLoopGradArgs<Float16>&, cudaStream_t);

}  // namespace seqrec_fast
