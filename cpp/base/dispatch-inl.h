// The table that maps an active target to the function compiled for it.
//
// Used once per kernel entry point, under HWY_ONCE, after the per-target code:
//     SEQREC_DISPATCH_TABLE(kForward, forward);   then   kForward[active_target()](args);
#pragma once

#include "base/targets.h"

#define SEQREC_DISPATCH_TABLE(table, function)                                                    \
    const ::seqrec_fast::DispatchTable<decltype(&HWY_STATIC_DISPATCH(function))> table = {        \
        {SEQREC_CHOOSE_SCALAR(function), SEQREC_CHOOSE_NEON(function), HWY_CHOOSE_SSE4(function), \
         HWY_CHOOSE_AVX2(function), HWY_CHOOSE_AVX3(function)}}

#if defined(__x86_64__) || defined(_M_X64)
#define SEQREC_CHOOSE_SCALAR(function) HWY_CHOOSE_FALLBACK(function)
#define SEQREC_CHOOSE_NEON(function) nullptr
#else
#define SEQREC_CHOOSE_SCALAR(function) nullptr
#define SEQREC_CHOOSE_NEON(function) HWY_CHOOSE_FALLBACK(function)
#endif

namespace seqrec_fast {

template <class Function>
struct DispatchTable {
    Function functions[kTargetCount];
    Function operator[](Target target) const { return functions[static_cast<int>(target)]; }
};

}  // namespace seqrec_fast
