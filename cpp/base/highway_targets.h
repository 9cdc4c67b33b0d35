// Which Highway targets the kernels are compiled for. Include before any Highway header.
//
// Highway is used through its headers alone: its run-time library (and with it the shared object
// that some systems ship it as) would only pick a target, which base/targets does here because
// force_target and the AMX back ends need it anyway. So a wheel carries no Highway.
#pragma once

// Sanitizer builds have the scalar target alone: instrumented vector code takes minutes to compile,
// and the indices that a sanitizer checks are computed by the same lines for every target.
#if defined(SEQREC_ONLY_SCALAR)
#define HWY_COMPILE_ONLY_SCALAR
#endif

// Plain C++ (Highway's SCALAR) is the floor on x86, whatever release of Highway and compiler.
#if defined(__x86_64__) || defined(_M_X64)
#define HWY_BROKEN_EMU128 1
#define HWY_BASELINE_TARGETS HWY_SCALAR
#endif

// Left out: SSSE3 (nobody has it without SSE4), AVX3_DL and its successors (same float code as
// AVX3), and the scalable vectors (their types cannot live in arrays, which the register tiles
// need). Bits 3 to 6 and 14 are targets of newer Highway releases (AVX10, SPR, ZEN4, SSE2).
#define SEQREC_NEWER_X86_TARGETS ((1LL << 3) | (1LL << 4) | (1LL << 5) | (1LL << 6) | (1LL << 14))
#define HWY_DISABLED_TARGETS                                                                 \
    (HWY_SSSE3 | HWY_AVX3_DL | SEQREC_NEWER_X86_TARGETS | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | \
     HWY_SVE2_128)
