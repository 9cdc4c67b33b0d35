#include "base/targets.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <atomic>
#include <cstdlib>

#include "base/check.h"

namespace seqrec_fast {
namespace {

constexpr int kUndecided = -1;
std::atomic<int> g_active{kUndecided};

std::string names(const std::vector<Target>& targets) {
    std::string joined;
    for (const Target target : targets) {
        joined += (joined.empty() ? "" : ", ");
        joined += target_name(target);
    }
    return joined;
}

Target widest_supported() {
    return supported_targets().back();
}

Target parse(const std::string& name, const char* origin) {
    if (name.empty() || name == "auto") {
        return widest_supported();
    }
    for (const Target target : supported_targets()) {
        if (name == target_name(target)) {
            return target;
        }
    }
    for (const Target target : compiled_targets()) {
        SEQREC_CHECK(name != target_name(target), origin, ": this machine cannot run the target '",
                     name, "'; it can run ", names(supported_targets()));
    }
    throw std::invalid_argument(concat(origin, ": this build has no target '", name, "'; it has ",
                                       names(compiled_targets())));
}

}  // namespace

bool cpu_supports(Target target) {
#if defined(__x86_64__)
    // The lists are what Highway's targets of these names may emit.
    const bool sse4 = __builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul") &&
                      __builtin_cpu_supports("aes");
    const bool avx2 = sse4 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    switch (target) {
        case Target::scalar: return true;
        case Target::sse4: return sse4;
        case Target::avx2: return avx2;
        case Target::avx512: return avx512;
        case Target::neon: return false;
    }
    return false;
#else
    return target == Target::neon;
#endif
}

#if defined(__x86_64__)
bool cpuid_bit(unsigned leaf, unsigned subleaf, CpuidRegister reg, int bit) {
    unsigned values[4] = {0, 0, 0, 0};
    return __get_cpuid_count(leaf, subleaf, &values[0], &values[1], &values[2], &values[3]) != 0 &&
           ((values[static_cast<int>(reg)] >> bit) & 1U) != 0;
}
#endif

const char* target_name(Target target) {
    static const char* const kNames[kTargetCount] = {"scalar", "neon", "sse4", "avx2", "avx512"};
    return kNames[static_cast<int>(target)];
}

std::vector<Target> compiled_targets() {
#if defined(SEQREC_ONLY_SCALAR)
    return {Target::scalar};
#elif defined(__x86_64__)
    return {Target::scalar, Target::sse4, Target::avx2, Target::avx512};
#else
    return {Target::neon};
#endif
}

std::vector<Target> supported_targets() {
    std::vector<Target> supported;
    for (const Target target : compiled_targets()) {
        if (cpu_supports(target)) {
            supported.push_back(target);
        }
    }
    return supported;
}

Target active_target() {
    int active = g_active.load(std::memory_order_relaxed);
    if (active == kUndecided) {
        const char* wanted = std::getenv("SEQREC_FAST_TARGET");
        active = static_cast<int>(parse(wanted == nullptr ? "" : wanted, "SEQREC_FAST_TARGET"));
        g_active.store(active, std::memory_order_relaxed);
    }
    return static_cast<Target>(active);
}

void force_target(const std::string& name) {
    g_active.store(static_cast<int>(parse(name, "force_target")), std::memory_order_relaxed);
}

}  // namespace seqrec_fast
