#include "cpu/dot_backends.h"

#include <array>
#include <atomic>
#include <cstdlib>

#include "base/check.h"

namespace seqrec_fast {
namespace {

// From the most portable to the best.
const DotBackend* const kBackends[] = {
#if defined(__x86_64__)
    &kDotBf16AmxEmulated, &kDotInt8AmxEmulated,
#endif
    &kDotBf16Highway,     &kDotInt8Highway,
#if defined(__aarch64__)
    &kDotInt8NeonDot,
#elif defined(__x86_64__)
    &kDotInt8Avx2,    &kDotInt8AvxVnni, &kDotInt8Avx512Vnni,
    &kDotBf16Avx512,  &kDotBf16Amx,     &kDotInt8Amx,
#endif
};

// Null: the choice is the machine's.
struct Choice {
    std::atomic<const DotBackend*> forced{nullptr};
    std::atomic<bool> environment_read{false};
};
Choice g_choices[kDotTypeCount];

const DotBackend* parse(DotType type, const std::string& name, const char* origin) {
    if (name.empty() || name == "auto") {
        return nullptr;
    }
    std::string have;
    for (const DotBackend* backend : supported_dot_backends(type)) {
        if (name == backend->name) {
            return backend;
        }
        have += (have.empty() ? "" : ", ") + std::string(backend->name);
    }
    throw std::invalid_argument(concat(origin, ": no back end '", name, "' for ",
                                       dot_type_name(type), " on this machine; it has ", have));
}

}  // namespace

thread_local const DotBackend* DotSession::current_ = nullptr;
thread_local const DotBackend* DotSession::for_few_rows_ = nullptr;

const char* dot_type_name(DotType type) {
    return type == DotType::bfloat16 ? "bfloat16" : "int8";
}

DotType parse_dot_type(const std::string& name) {
    for (const DotType type : {DotType::bfloat16, DotType::int8}) {
        if (name == dot_type_name(type)) {
            return type;
        }
    }
    throw std::invalid_argument(concat("precision is '", name, "'; expected 'bfloat16' or 'int8'"));
}

const std::vector<const DotBackend*>& supported_dot_backends(DotType type) {
    // Asked once: on a virtual machine CPUID takes as long as a step of a layer.
    static const auto supported = [] {
        std::array<std::vector<const DotBackend*>, kDotTypeCount> by_type;
        for (const DotBackend* backend : kBackends) {
            if (backend->supported()) {
                by_type[static_cast<std::size_t>(backend->type)].push_back(backend);
            }
        }
        return by_type;
    }();
    return supported[static_cast<std::size_t>(type)];
}

const DotBackend& active_dot_backend(DotType type, std::int64_t n_rows) {
    Choice& choice = g_choices[static_cast<int>(type)];
    if (!choice.environment_read.load(std::memory_order_acquire)) {
        const char* variable =
            type == DotType::bfloat16 ? "SEQREC_FAST_BFLOAT16" : "SEQREC_FAST_INT8";
        const char* wanted = std::getenv(variable);
        choice.forced = parse(type, wanted == nullptr ? "" : wanted, variable);
        choice.environment_read.store(true, std::memory_order_release);
    }
    const DotBackend* best = choice.forced.load(std::memory_order_relaxed);
    if (best != nullptr) {
        return *best;
    }
    const Target target = active_target();
    for (const DotBackend* backend : supported_dot_backends(type)) {
        if (backend->target <= target && backend->least_rows <= n_rows) {
            best = backend;
        }
    }
    return *best;
}

void force_dot_backend(DotType type, const std::string& name) {
    Choice& choice = g_choices[static_cast<int>(type)];
    choice.forced = parse(type, name, "force_backend");
    choice.environment_read.store(true, std::memory_order_release);
}

}  // namespace seqrec_fast
