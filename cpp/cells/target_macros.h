// A cell formula is written once and compiled for every CPU target and for CUDA: under nvcc, and in
// the emulation of CUDA, the macros below make device functions, elsewhere they are Highway's
// per-target ones.
// No include guard: highway.h has to be seen anew for every target.
#if defined(__CUDACC__) || defined(SEQREC_SIMT_EMULATION)
#ifndef SEQREC_FN
#define SEQREC_BEFORE_NAMESPACE()
#define SEQREC_AFTER_NAMESPACE()
#define SEQREC_TARGET_NAMESPACE cuda
#if defined(__CUDACC__)
#define SEQREC_FN __device__ __forceinline__
#else
#define SEQREC_FN inline
#endif
#endif
#else
#include "hwy/highway.h"
#ifndef SEQREC_FN
#define SEQREC_BEFORE_NAMESPACE() HWY_BEFORE_NAMESPACE()
#define SEQREC_AFTER_NAMESPACE() HWY_AFTER_NAMESPACE()
#define SEQREC_TARGET_NAMESPACE HWY_NAMESPACE
#define SEQREC_FN HWY_INLINE
#endif
#endif
