// GRUs with attention backward on a GPU.
#include "cuda/rnn_backward.h"

namespace seqrec_fast {

template <class S>
void augru_backward_cuda(const RnnLoopGradArgs<S>& args, cudaStream_t stream) {
    cuda::run_backward<cuda::GruLoopCell<CellKind::augru_paper>>(args, stream);
}

template void augru_backward_cuda(const RnnLoopGradArgs<float>&, cudaStream_t);
template void augru_backward_cuda(const RnnLoopGradArgs<double>&, cudaStream_t);
template void augru_backward_cuda(const RnnLoopGradArgs<Bfloat16>&, cudaStream_t);
template void augru_backward_cuda(const RnnLoopGradArgs<Float16>&, cudaStream_t);

}  // namespace seqrec_fast
