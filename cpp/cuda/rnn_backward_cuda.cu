// Vanilla RNN backward on a GPU.
#include "cuda/rnn_backward.h"

namespace seqrec_fast {

template <class S>
void rnn_backward_cuda(const RnnLoopGradArgs<S>& args, cudaStream_t stream) {
    cuda::run_backward<cuda::RnnLoopCell>(args, stream);
}

template void rnn_backward_cuda(const RnnLoopGradArgs<float>&, cudaStream_t);
template void rnn_backward_cuda(const RnnLoopGradArgs<double>&, cudaStream_t);
template void rnn_backward_cuda(const RnnLoopGradArgs<Bfloat16>&, cudaStream_t);
template void rnn_backward_cuda(const RnnLoopGradArgs<Float16>&, cudaStream_t);

}  // namespace seqrec_fast
