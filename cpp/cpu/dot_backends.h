// Products of bfloat16 or 8-bit rows with packed weights: the interface of all instruction sets.
//
// A word is 4 bytes: two bfloat16 or four 8-bit values of neighbouring k. Weights are packed panels
// of words (packed_panels.h), so that every instruction set reads the same memory. Each back end
// has a file of its own, named after it.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "base/targets.h"

namespace seqrec_fast {

enum class DotType { bfloat16, int8 };
constexpr int kDotTypeCount = 2;

constexpr std::int64_t values_per_word(DotType type) {
    return type == DotType::bfloat16 ? 2 : 4;
}
const char* dot_type_name(DotType type);
DotType parse_dot_type(const std::string& name);  // throws std::invalid_argument

// Rows and depth are padded to whole tiles of AMX: 16 rows, 16 words. What is beyond a row's depth
// is zero (in 8 bits: 0 or the bias), the rows beyond n_rows hold anything.
constexpr std::int64_t kDotTile = 16;
constexpr std::int64_t padded_to_dot_tiles(std::int64_t n) {
    return (n + kDotTile - 1) / kDotTile * kDotTile;
}

// sums[panel][row][column] = sum over k of row[k] * weight[k][column], for the n_vectors * 16
// columns of each of n_panels neighbouring panels. Sums are float32 for bfloat16, exact int32 for
// int8; there is room for padded rows.
struct DotArgs {
    const std::uint32_t* rows;  // (padded rows, padded depth)
    std::int64_t n_rows;
    const std::uint32_t* panels;  // (n_panels, padded depth, n_vectors * 16)
    std::int64_t n_panels;
    std::int64_t depth, padded_depth;  // in words
    std::int64_t n_vectors;            // 1 to 4
    const std::int32_t* offsets;       // (n_panels, n_vectors * 16): what the bias adds, negated
    void* sums;
};

// Codes are asked for so far ahead: beyond a page, where the hardware's own prefetching ends.
constexpr std::int64_t kCodeBytesAhead = 16384;

// A bias in units is no less: beyond it, an item is out of reach of any threshold above INT32_MIN.
constexpr float kLeastStart = -0x1p29F;

// Which of the 64 items of each of n_panels neighbouring panels (four vectors wide) may matter to
// each row: bit i of hits[panel][row] is set if
//     int(max(bias[panel][i] * bias_scales[panel][row], kLeastStart)) + sum over k of row[k] *
//     code[k][i]
//         >= thresholds[panel][row]
// with 8-bit rows (signed) and codes (unsigned, less the back end's code_offset), and exact sums.
struct ScanArgs {
    const std::uint32_t* rows;  // (padded rows, padded depth)
    std::int64_t n_rows;
    const std::uint32_t* panels;  // (n_panels, padded depth, 64)
    std::int64_t n_panels;
    std::int64_t depth, padded_depth;  // in words
    const float* bias;                 // (n_panels, 64); optional
    const float* bias_scales;          // (n_panels, n_rows)
    const std::int32_t* thresholds;    // (n_panels, n_rows)
    // In place of the panels, for up to rows_from_halves rows: the upper and lower halves of the
    // codes as PackedItems has them; without the lower ones the upper halves are the codes.
    const std::uint8_t* high;
    const std::uint8_t* low;
    std::int32_t* sums;   // (padded rows, 64): those of the last panel, for rows with hits
    std::uint64_t* hits;  // (n_panels, n_rows)
};

struct DotBackend {
    const char* name;
    DotType type;
    Target target;  // chosen by itself only if the active target is at least this one
    bool (*supported)();
    std::int32_t bias;  // added to the 8-bit values of a row: 128 where they are unsigned
    void (*begin)();    // a thread calls it before a series of products, and `end` after it
    void (*end)();
    void (*multiply)(const DotArgs& args);
    void (*scan)(const ScanArgs& args);  // int8
    std::int32_t code_offset;            // of `scan`: 128 where it takes codes as signed
    std::int64_t rows_from_halves;       // for so many rows `scan` puts halves together by itself
    int largest_row_code = 127;          // of `scan`
    std::int64_t least_rows = 0;         // for fewer, another is faster and its sums are the same
    // How values become bfloat16, and two rows the words of their pairs (a null second row is
    // zeros), where the processor has an instruction for it; else null. No more than n are written.
    void (*round)(const float* from, std::int64_t n, std::uint16_t* to) = nullptr;
    void (*round_pair)(const float* first, const float* second, std::int64_t n,
                       std::uint32_t* words) = nullptr;
};

constexpr std::int64_t kManyRows = std::numeric_limits<std::int64_t>::max();

// Those that this machine can run; the last is the best.
const std::vector<const DotBackend*>& supported_dot_backends(DotType type);

// The back end in use for products of `n_rows` rows: the forced one, else the best that the active
// target allows. At first SEQREC_FAST_BFLOAT16 or SEQREC_FAST_INT8 may name it. Throws
// std::invalid_argument if that back end cannot be had.
const DotBackend& active_dot_backend(DotType type, std::int64_t n_rows = kManyRows);

// Makes `name` the back end; "" or "auto" leaves the choice to the machine. Throws
// std::invalid_argument for a name that is unknown or not supported here.
void force_dot_backend(DotType type, const std::string& name);

// A series of products on one thread; products are made inside one only.
class DotSession {
  public:
    // Without a type it does nothing. No product has more than `most_rows` rows.
    explicit DotSession(std::optional<DotType> type, std::int64_t most_rows = kManyRows)
        : backend_(type ? &active_dot_backend(*type, most_rows) : nullptr) {
        if (backend_ != nullptr) {
            backend_->begin();
            current_ = backend_;
            for_few_rows_ = backend_->least_rows == 0 ? backend_ : &active_dot_backend(*type, 1);
        }
    }
    ~DotSession() {
        if (backend_ != nullptr) {
            current_ = nullptr;
            backend_->end();
        }
    }
    DotSession(const DotSession&) = delete;
    DotSession& operator=(const DotSession&) = delete;

    static const DotBackend& current() { return *current_; }
    // The one for a product of `n_rows` rows. Back ends for few rows need no setup.
    static const DotBackend& current(std::int64_t n_rows) {
        return n_rows < current_->least_rows ? *for_few_rows_ : *current_;
    }

  private:
    const DotBackend* backend_;
    static thread_local const DotBackend* current_;
    static thread_local const DotBackend* for_few_rows_;
};

// The back ends, where this build has them (see dot_backends.cpp).
extern const DotBackend kDotBf16Highway, kDotInt8Highway;
#if defined(__x86_64__)
extern const DotBackend kDotBf16Avx512, kDotInt8Avx2, kDotInt8AvxVnni, kDotInt8Avx512Vnni;
extern const DotBackend kDotBf16Amx, kDotInt8Amx, kDotBf16AmxEmulated, kDotInt8AmxEmulated;
#elif defined(__aarch64__)
extern const DotBackend kDotInt8NeonDot;
#endif

inline void no_dot_setup() {}

#if defined(__x86_64__)
// Those of AVX512_BF16 (dot_bf16_avx512.cpp).
bool has_avx512_bf16();
void round_by_avx512_bf16(const float* from, std::int64_t n, std::uint16_t* to);
void round_pair_by_avx512_bf16(const float* first, const float* second, std::int64_t n,
                               std::uint32_t* words);
#endif

}  // namespace seqrec_fast
