// Vanilla RNN backward on a GPU.
#include "cuda/rnn_backward.h"

namespace seqrec_fast {

template <class S>
void rnn_backward_cuda(const RnnLoopGradArgs<S>& args, cudaStream_t stream) {
    switch (args.kind) {
        case CellKind::rnn_relu:
            return cuda::run_backward<cuda::RnnLoopCell<cuda::ReluActivation, CellKind::rnn_relu>>(
                args, stream);
        default:
            return cuda::run_backward<cuda::RnnLoopCell<cuda::TanhActivation, CellKind::rnn_tanh>>(
                args, stream);
    }
}

template void rnn_backward_cuda(const RnnLoopGradArgs<float>&, cudaStream_t);
template void rnn_backward_cuda(const RnnLoopGradArgs<double>&, cudaStream_t);
template void rnn_backward_cuda(const RnnLoopGradArgs<Bfloat16>&, cudaStream_t);
template void rnn_backward_cuda(const RnnLoopGradArgs<Float16>&, cudaStream_t);

}  // namespace seqrec_fast
