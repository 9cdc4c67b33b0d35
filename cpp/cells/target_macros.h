// A cell formula is written once and compiled for every CPU target and for CUDA: under nvcc the
// macros below make device functions, elsewhere they are Highway's per-target ones.
// No include guard: highway.h has to be seen anew for every target.
#if defined(__CUDACC__)
#ifndef SEQREC_FN
#define SEQREC_BEFORE_NAMESPACE()
#define SEQREC_AFTER_NAMESPACE()
#define SEQREC_TARGET_NAMESPACE cuda
#define SEQREC_FN __device__ __forceinline__
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
