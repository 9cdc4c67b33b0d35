// Loops over what a thread has in registers have to be unrolled.
#pragma once

#if defined(__CUDACC__)
#define SEQREC_UNROLL _Pragma("unroll")
#define SEQREC_NO_UNROLL _Pragma("unroll 1")
#else
#define SEQREC_UNROLL
#define SEQREC_NO_UNROLL
#endif
