// LSTM forward on a GPU.
#include "cuda/rnn_forward.h"

namespace seqrec_fast {

template <class T>
void lstm_forward_cuda(const RnnLoopArgs<T>& args, cudaStream_t stream) {
    cuda::run_forward<cuda::LstmLoopCell>(args, stream);
}

template void lstm_forward_cuda(const RnnLoopArgs<float>&, cudaStream_t);
template void lstm_forward_cuda(const RnnLoopArgs<double>&, cudaStream_t);

}  // namespace seqrec_fast
