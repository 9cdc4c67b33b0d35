// bfloat16 and 8-bit dot products with AMX tiles, and the same program on tiles in plain C++, so
// that its indices are tested on every machine.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu/dot_backends.h"

namespace seqrec_fast {
namespace {

constexpr std::int64_t kTileBytes = 64;  // of one of a tile's 16 rows

// What a word's products are; of bytes the row is signed.
enum class Products { bfloat16, by_signed, by_unsigned };

// The instructions by name; the compiler's own wrappers want their operands as literals.
struct HardwareTiles {
    static void begin() {
        struct alignas(64) {
            std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
            std::uint16_t row_bytes[16] = {};
            std::uint8_t rows[16] = {};
        } config;
        for (int tile = 0; tile < 8; ++tile) {
            config.row_bytes[tile] = kTileBytes;
            config.rows[tile] = kDotTile;
        }
        asm volatile("ldtilecfg %0" ::"m"(config));
    }
    static void end() { asm volatile("tilerelease"); }
    template <int tile>
    static void zero() {
        asm volatile("tilezero %%tmm%c0" ::"i"(tile));
    }
    template <int tile>
    static void load(const std::uint32_t* from, std::int64_t stride) {
        asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(tile)
                     : "memory");
    }
    template <int tile>
    static void store(void* to, std::int64_t stride) {
        asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(tile) : "memory");
    }
    // sum += row * weight
    template <Products products, int sum, int row, int weight>
    static void dot() {
        if constexpr (products == Products::bfloat16) {
            asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(row),
                         "i"(weight));
        } else if constexpr (products == Products::by_signed) {
            asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(row), "i"(weight));
        } else {
            asm volatile("tdpbsud %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(row), "i"(weight));
        }
    }
    // As ScanArgs has it, for the 64 sums of one row.
    __attribute__((target("avx512f"))) static std::uint64_t at_least(std::int32_t* sums,
                                                                     const float* bias, float scale,
                                                                     std::int32_t threshold) {
        std::uint64_t hits = 0;
        for (int v = 0; v < 4; ++v) {
            __m512i sum = _mm512_loadu_si512(sums + 16 * v);
            if (bias != nullptr) {
                const __m512 start =
                    _mm512_mul_ps(_mm512_loadu_ps(bias + 16 * v), _mm512_set1_ps(scale));
                const __m512 least = _mm512_set1_ps(kLeastStart);
                const __m512 units = _mm512_maskz_max_ps(0xffff, start, least);
                sum = _mm512_add_epi32(sum, _mm512_maskz_cvtps_epi32(0xffff, units));
                _mm512_storeu_si512(sums + 16 * v, sum);
            }
            const __mmask16 lanes = _mm512_cmpge_epi32_mask(sum, _mm512_set1_epi32(threshold));
            hits |= static_cast<std::uint64_t>(lanes) << (16 * v);
        }
        return hits;
    }
};

struct PlainTiles {
    using Tile = std::array<std::array<std::uint32_t, kDotTile>, kDotTile>;
    static Tile& tile(int i) {
        thread_local std::array<Tile, 8> tiles;
        return tiles[static_cast<std::size_t>(i)];
    }
    static void begin() {}
    static void end() {}
    template <int t>
    static void zero() {
        tile(t) = Tile{};
    }
    template <int t>
    static void load(const std::uint32_t* from, std::int64_t stride) {
        for (auto& row : tile(t)) {
            std::memcpy(row.data(), from, sizeof(row));
            from += stride / static_cast<std::int64_t>(sizeof(*from));
        }
    }
    template <int t>
    static void store(void* to, std::int64_t stride) {
        auto* bytes = static_cast<std::byte*>(to);
        for (const auto& row : tile(t)) {
            std::memcpy(bytes, row.data(), sizeof(row));
            bytes += stride;
        }
    }
    template <Products products, int sum, int row, int weight>
    static void dot() {
        for (std::size_t m = 0; m < kDotTile; ++m) {
            for (std::size_t n = 0; n < kDotTile; ++n) {
                for (std::size_t k = 0; k < kDotTile; ++k) {
                    add_word<products>(tile(sum)[m][n], tile(row)[m][k], tile(weight)[k][n]);
                }
            }
        }
    }

    static std::uint64_t at_least(std::int32_t* sums, const float* bias, float scale,
                                  std::int32_t threshold) {
        std::uint64_t hits = 0;
        for (int i = 0; i < 64; ++i) {
            const float units = bias == nullptr ? 0 : bias[i] * scale;
            const long start = units > kLeastStart ? std::lrint(units) : std::lrint(kLeastStart);
            sums[i] += static_cast<std::int32_t>(start);
            hits |= static_cast<std::uint64_t>(sums[i] >= threshold) << i;
        }
        return hits;
    }

  private:
    template <Products products>
    static void add_word(std::uint32_t& sum, std::uint32_t a, std::uint32_t b) {
        if constexpr (products == Products::bfloat16) {
            const auto value = [](std::uint32_t bits) {
                float x;
                std::memcpy(&x, &bits, sizeof(x));
                return x;
            };
            float total = value(sum);
            total += value(a << 16) * value(b << 16);
            total += value(a & 0xffff0000U) * value(b & 0xffff0000U);
            std::memcpy(&sum, &total, sizeof(total));
        } else {
            for (int byte = 0; byte < 4; ++byte) {
                const auto is_signed = [&](std::uint32_t word) {
                    return static_cast<std::int32_t>(static_cast<std::int8_t>(word >> (8 * byte)));
                };
                const auto weight = products == Products::by_signed
                                        ? is_signed(b)
                                        : static_cast<std::int32_t>((b >> (8 * byte)) & 0xff);
                sum += static_cast<std::uint32_t>(is_signed(a) * weight);
            }
        }
    }
};

template <int... i, class Task>
void unroll(std::integer_sequence<int, i...>, const Task& task) {
    (task(std::integral_constant<int, i>()), ...);
}
// Calls task(0) to task(n - 1), with integral constants.
template <int n, class Task>
void unroll(const Task& task) {
    unroll(std::make_integer_sequence<int, n>(), task);
}

// kRowTiles x 16 rows against kColumns neighbouring vectors of a panel of words, `width` words to a
// term. Tiles 0 to 3 hold sums, then come rows, then weights.
template <class Tiles, Products products, int kRowTiles, int kColumns>
void multiply_block(std::int64_t padded_depth, const std::uint32_t* rows,
                    const std::uint32_t* panel, std::int64_t width, std::uint32_t* sums) {
    constexpr int kRowTile = 4, kWeightTile = kRowTile + kRowTiles, kWeightTiles = 8 - kWeightTile;
    static_assert(kRowTiles * kColumns <= kRowTile, "sums have four tiles");
    constexpr auto kWord = static_cast<std::int64_t>(sizeof(*rows));
    unroll<kRowTiles * kColumns>([](auto sum) { Tiles::template zero<sum>(); });
    for (std::int64_t k = 0; k < padded_depth; k += kDotTile) {
        unroll<kRowTiles>([&](auto r) {
            Tiles::template load<kRowTile + r>(rows + r * kDotTile * padded_depth + k,
                                               padded_depth * kWord);
        });
        unroll<kColumns>([&](auto c) {
            constexpr int kColumn = decltype(c)::value;
            constexpr int kWeight = kWeightTile + kColumn % kWeightTiles;
            Tiles::template load<kWeight>(panel + k * width + c * kDotTile, width * kWord);
            unroll<kRowTiles>([](auto r) {
                Tiles::template dot<products, r * kColumns + kColumn, kRowTile + r, kWeight>();
            });
        });
    }
    unroll<kRowTiles>([&](auto r) {
        unroll<kColumns>([&](auto c) {
            Tiles::template store<r * kColumns + c>(sums + r * kDotTile * width + c * kDotTile,
                                                    width * kWord);
        });
    });
}

// Up to 32 rows against all kVectors vectors of a panel. Two tiles of rows share each weight that
// is loaded, for two vectors at a time; one has all vectors, so that sums need not wait for
// themselves.
template <class Tiles, Products products, int kVectors>
void multiply_rows(std::int64_t padded_depth, const std::uint32_t* rows, std::int64_t n_rows,
                   const std::uint32_t* panel, std::uint32_t* sums) {
    constexpr std::int64_t kWidth = kVectors * kDotTile;
    if (n_rows <= kDotTile) {
        multiply_block<Tiles, products, 1, kVectors>(padded_depth, rows, panel, kWidth, sums);
        return;
    }
    unroll<(kVectors + 1) / 2>([&](auto pair) {
        constexpr int kFirst = 2 * pair, kColumns = kVectors - kFirst < 2 ? 1 : 2;
        multiply_block<Tiles, products, 2, kColumns>(padded_depth, rows, panel + kFirst * kDotTile,
                                                     kWidth, sums + kFirst * kDotTile);
    });
}
constexpr std::int64_t kBlockRows = 2 * kDotTile;

// A tile stores 16 rows of sums; what is too much is overwritten by the next one, or lies in the
// room that DotArgs promises.
template <class Tiles, Products products, int kVectors>
void multiply_panels(const DotArgs& args) {
    constexpr std::int64_t kWidth = kVectors * kDotTile;
    auto* sums = static_cast<std::uint32_t*>(args.sums);
    for (std::int64_t p = 0; p < args.n_panels; ++p) {
        const std::uint32_t* panel = args.panels + p * args.padded_depth * kWidth;
        for (std::int64_t row = 0; row < args.n_rows; row += kBlockRows) {
            multiply_rows<Tiles, products, kVectors>(
                args.padded_depth, args.rows + row * args.padded_depth, args.n_rows - row, panel,
                sums + (p * args.n_rows + row) * kWidth);
        }
    }
}

template <class Tiles, Products products>
void multiply(const DotArgs& args) {
    switch (args.n_vectors) {
        case 4: return multiply_panels<Tiles, products, 4>(args);
        case 3: return multiply_panels<Tiles, products, 3>(args);
        case 2: return multiply_panels<Tiles, products, 2>(args);
        default: return multiply_panels<Tiles, products, 1>(args);
    }
}

template <class Tiles>
void scan(const ScanArgs& args) {
    constexpr std::int64_t kWidth = 4 * kDotTile;
    for (std::int64_t p = 0; p < args.n_panels; ++p) {
        const std::uint32_t* panel = args.panels + p * args.padded_depth * kWidth;
        const float* bias = args.bias == nullptr ? nullptr : args.bias + p * kWidth;
        for (std::int64_t row = 0; row < args.n_rows; row += kBlockRows) {
            multiply_rows<Tiles, Products::by_unsigned, 4>(
                args.padded_depth, args.rows + row * args.padded_depth, args.n_rows - row, panel,
                reinterpret_cast<std::uint32_t*>(args.sums + row * kWidth));
            const std::int64_t rows = std::min(kBlockRows, args.n_rows - row);
            for (std::int64_t r = 0; r < rows; ++r) {
                const std::int64_t at = p * args.n_rows + row + r;
                args.hits[at] = Tiles::at_least(args.sums + (row + r) * kWidth, bias,
                                                bias == nullptr ? 0 : args.bias_scales[at],
                                                args.thresholds[at]);
            }
        }
    }
}

// Linux gives the tile registers to a process that asks for them, once.
bool tiles_permitted() {
#if defined(__linux__)
    constexpr long kRequestPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
    return false;
#endif
}

// CPUID leaf 7: bit 22 of EDX is AMX-BF16, 24 AMX-TILE, 25 AMX-INT8.
bool hardware_supported() {
    static const bool supported = cpu_supports(Target::avx512) && has_avx512_bf16() &&
                                  cpuid_bit(7, 0, CpuidRegister::edx, 22) &&
                                  cpuid_bit(7, 0, CpuidRegister::edx, 24) &&
                                  cpuid_bit(7, 0, CpuidRegister::edx, 25) && tiles_permitted();
    return supported;
}

// One or two rows fill so little of a tile that vectors are faster; exact sums do not show it.
constexpr std::int64_t kLeastRows = 3;

template <class Tiles, DotType type>
constexpr DotBackend backend(const char* name, Target target, bool (*supported)()) {
    DotBackend made{};
    made.name = name;
    made.type = type;
    made.target = target;
    made.supported = supported;
    made.begin = Tiles::begin;
    made.end = Tiles::end;
    if constexpr (type == DotType::bfloat16) {
        made.multiply = multiply<Tiles, Products::bfloat16>;
        if (std::is_same_v<Tiles, HardwareTiles>) {
            made.round = round_by_avx512_bf16;
            made.round_pair = round_pair_by_avx512_bf16;
        }
    } else {
        made.multiply = multiply<Tiles, Products::by_signed>;
        made.scan = scan<Tiles>;
        made.least_rows = kLeastRows;
    }
    return made;
}
constexpr auto kAlways = [] { return true; };

}  // namespace

const DotBackend kDotBf16Amx =
    backend<HardwareTiles, DotType::bfloat16>("amx", Target::avx512, hardware_supported);
const DotBackend kDotInt8Amx =
    backend<HardwareTiles, DotType::int8>("amx", Target::avx512, hardware_supported);
const DotBackend kDotBf16AmxEmulated =
    backend<PlainTiles, DotType::bfloat16>("amx_emulated", Target::scalar, kAlways);
const DotBackend kDotInt8AmxEmulated =
    backend<PlainTiles, DotType::int8>("amx_emulated", Target::scalar, kAlways);

}  // namespace seqrec_fast
