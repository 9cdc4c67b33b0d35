// CPU targets: what was compiled, what this machine can run, which one is active.
#pragma once

#include <string>
#include <vector>

namespace seqrec_fast {

// From the most portable to the widest; `scalar` is plain C++.
enum class Target { scalar, neon, sse4, avx2, avx512 };
constexpr int kTargetCount = 5;

const char* target_name(Target target);

// Whether this machine can run the code of a target.
bool cpu_supports(Target target);

#if defined(__x86_64__)
// One bit of what the processor says of itself, for features that the compiler has no name for.
enum class CpuidRegister { eax, ebx, ecx, edx };
bool cpuid_bit(unsigned leaf, unsigned subleaf, CpuidRegister reg, int bit);
#endif

// Targets with code in this build, and those of them that this machine can run.
std::vector<Target> compiled_targets();
std::vector<Target> supported_targets();

// The target that every kernel uses. At first: SEQREC_FAST_TARGET if it is set, else the widest
// supported one. Throws std::invalid_argument if SEQREC_FAST_TARGET cannot be had.
Target active_target();

// Makes `name` the active target; "" or "auto" means the widest supported one. Throws
// std::invalid_argument for a name that is unknown, not compiled or not supported here.
void force_target(const std::string& name);

}  // namespace seqrec_fast
