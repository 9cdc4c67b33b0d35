// GRU forward on a GPU.
#include "cuda/rnn_forward.h"

namespace seqrec_fast {

template <class S>
void gru_forward_cuda(const RnnLoopArgs<S>& args, cudaStream_t stream) {
    switch (args.kind) {
        case CellKind::gru_reset_before:
            return cuda::run_forward<cuda::GruResetBeforeLoopCell>(args, stream);
        default: return cuda::run_forward<cuda::GruLoopCell<CellKind::gru>>(args, stream);
    }
}

template void gru_forward_cuda(const RnnLoopArgs<float>&, cudaStream_t);
template void gru_forward_cuda(const RnnLoopArgs<double>&, cudaStream_t);
template void gru_forward_cuda(const RnnLoopArgs<Bfloat16>&, cudaStream_t);
template void gru_forward_cuda(const RnnLoopArgs<Float16>&, cudaStream_t);

}  // namespace seqrec_fast
