// GRUs with attention forward on a GPU.
#include "cuda/rnn_forward.h"

namespace seqrec_fast {

template <class S>
void augru_forward_cuda(const RnnLoopArgs<S>& args, cudaStream_t stream) {
    switch (args.kind) {
        case CellKind::augru_paper:
            return cuda::run_forward<cuda::GruLoopCell<cuda::AugruPaperBlend>>(args, stream);
        case CellKind::augru_tf:
            return cuda::run_forward<cuda::GruLoopCell<cuda::AugruTfBlend>>(args, stream);
        default: return cuda::run_forward<cuda::GruLoopCell<cuda::AgruBlend>>(args, stream);
    }
}

template void augru_forward_cuda(const RnnLoopArgs<float>&, cudaStream_t);
template void augru_forward_cuda(const RnnLoopArgs<double>&, cudaStream_t);
template void augru_forward_cuda(const RnnLoopArgs<Bfloat16>&, cudaStream_t);
template void augru_forward_cuda(const RnnLoopArgs<Float16>&, cudaStream_t);

}  // namespace seqrec_fast
