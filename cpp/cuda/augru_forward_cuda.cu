// GRUs with attention forward on a GPU.
#include "cuda/rnn_forward.h"

namespace seqrec_fast {

template <class S>
void augru_forward_cuda(const RnnLoopArgs<S>& args, cudaStream_t stream) {
    cuda::run_forward<cuda::GruLoopCell<CellKind::augru_paper>>(args, stream);
}

template void augru_forward_cuda(const RnnLoopArgs<float>&, cudaStream_t);
template void augru_forward_cuda(const RnnLoopArgs<double>&, cudaStream_t);
template void augru_forward_cuda(const RnnLoopArgs<Bfloat16>&, cudaStream_t);
template void augru_forward_cuda(const RnnLoopArgs<Float16>&, cudaStream_t);

}  // namespace seqrec_fast
