// Sequences split by expert, and put together again, on a GPU: checked, then started on a stream.
// Arrays are in the GPU's memory, and what they hold is not looked at here.
#pragma once

#include "cuda/dispatch_kernels.h"
#include "ops/dispatch.h"

namespace seqrec_fast {

// Of `workspace` (1, bytes) below.
std::int64_t dispatch_workspace(const char* function, std::int64_t events, std::int64_t k,
                                std::int64_t batch, std::int64_t experts);

// parts (1, M * B + 1): where the subsequences begin. status (1, 2), zeros: gets the number of
// rows, and 1 if ids or offsets are not what the CPU's function accepts; then there is no plan.
void dispatch_offsets(const char* function, const DispatchByExpert& call,
                      const MatrixView<std::uint8_t>& workspace,
                      const MatrixView<std::int64_t>& parts, const MatrixView<std::int64_t>& status,
                      cudaStream_t stream);

// After dispatch_offsets with the same call and workspace: index and slot (1, rows), position (N,
// k).
void dispatch_plan(const char* function, const DispatchByExpert& call,
                   const MatrixView<std::uint8_t>& workspace,
                   const MatrixView<const std::int64_t>& parts,
                   const MatrixView<std::int64_t>& index, const MatrixView<std::int64_t>& slot,
                   const MatrixView<std::int64_t>& position, cudaStream_t stream);

// As those of ops/dispatch.h. Positions out of range count as -1.
template <class T>
void dispatch_rows(const char* function, const DispatchRows<T>& call, cudaStream_t stream);

template <class T>
void combine_rows(const char* function, const CombineRows<T>& call, cudaStream_t stream);

}  // namespace seqrec_fast
