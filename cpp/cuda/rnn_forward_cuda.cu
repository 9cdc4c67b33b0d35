// Vanilla RNN forward on a GPU.
#include "cuda/rnn_forward.h"

namespace seqrec_fast {

template <class S>
void rnn_forward_cuda(const RnnLoopArgs<S>& args, cudaStream_t stream) {
    cuda::run_forward<cuda::RnnLoopCell>(args, stream);
}

template void rnn_forward_cuda(const RnnLoopArgs<float>&, cudaStream_t);
template void rnn_forward_cuda(const RnnLoopArgs<double>&, cudaStream_t);
template void rnn_forward_cuda(const RnnLoopArgs<Bfloat16>&, cudaStream_t);
template void rnn_forward_cuda(const RnnLoopArgs<Float16>&, cudaStream_t);

}  // namespace seqrec_fast
