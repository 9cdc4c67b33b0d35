// The table that maps an active target to the function compiled for it.
//
// Used once per kernel entry point, under HWY_ONCE, after the per-target code:
//     SEQREC_DISPATCH_TABLE(kForward, forward);   then   kForward[active_target()](args);
// or  SEQREC_DISPATCH_FLOATS(forward_cpu, forward, ForwardArgs)   for templates over float types.
#pragma once

#include "base/targets.h"

#define SEQREC_DISPATCH_TABLE(table, function)                                                    \
    const ::seqrec_fast::DispatchTable<decltype(&HWY_STATIC_DISPATCH(function))> table = {        \
        {SEQREC_CHOOSE_SCALAR(function), SEQREC_CHOOSE_NEON(function), HWY_CHOOSE_SSE4(function), \
         HWY_CHOOSE_AVX2(function), HWY_CHOOSE_AVX3(function)}}

// Defines op<float> and op<double>, which take one Args<T>, from the per-target `function<T>`.
#define SEQREC_DISPATCH_FLOATS(op, function, Args)              \
    template <>                                                 \
    void op(const Args<float>& args) {                          \
        static SEQREC_DISPATCH_TABLE(kTable, function<float>);  \
        kTable[active_target()](args);                          \
    }                                                           \
    template <>                                                 \
    void op(const Args<double>& args) {                         \
        static SEQREC_DISPATCH_TABLE(kTable, function<double>); \
        kTable[active_target()](args);                          \
    }

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
