#include "ops/cuda/row_update.h"

#include "cuda/row_update_kernels.h"

namespace seqrec_fast {

template <class T>
void update_rows(const char* function, const TableUpdate<T>& call, cudaStream_t stream) {
    row_update_cuda(checked_update_rows(function, call), stream);
}

template void update_rows(const char*, const TableUpdate<float>&, cudaStream_t);
template void update_rows(const char*, const TableUpdate<double>&, cudaStream_t);

}  // namespace seqrec_fast
