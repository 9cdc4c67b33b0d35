// bfloat16 and 8-bit dot products with AMX tiles, and the same program on tiles in plain C++, so
// that its indices are tested on every machine.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "cpu/dot_backends.h"

namespace seqrec_fast {
namespace {

constexpr std::int64_t kTileBytes = 64;  // of one of a tile's 16 rows
constexpr int kRowTile = 4;              // tiles 0 to 3 hold sums
constexpr int kWeightTile = 5;

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

// 16 rows against one panel of words: the row tile is loaded once for all vectors of the panel.
template <class Tiles, Products products, int... vectors>
void multiply_tile(std::int64_t padded_depth, const std::uint32_t* rows, const std::uint32_t* panel,
                   void* sums, std::integer_sequence<int, vectors...>) {
    constexpr std::int64_t kWidth = static_cast<std::int64_t>(sizeof...(vectors)) * kDotTile;
    constexpr std::int64_t kStride = kWidth * static_cast<std::int64_t>(sizeof(*panel));
    (Tiles::template zero<vectors>(), ...);
    for (std::int64_t k = 0; k < padded_depth; k += kDotTile) {
        Tiles::template load<kRowTile>(rows + k,
                                       padded_depth * static_cast<std::int64_t>(sizeof(*rows)));
        ((Tiles::template load<kWeightTile + vectors % 3>(panel + k * kWidth + vectors * kDotTile,
                                                          kStride),
          Tiles::template dot<products, vectors, kRowTile, kWeightTile + vectors % 3>()),
         ...);
    }
    (Tiles::template store<vectors>(static_cast<std::uint32_t*>(sums) + vectors * kDotTile,
                                    kStride),
     ...);
}

// A tile stores 16 rows of sums; what is too much is overwritten by the next one, or lies in the
// room that DotArgs promises.
template <class Tiles, Products products, int kVectors>
void multiply_panels(const DotArgs& args) {
    constexpr std::int64_t kWidth = kVectors * kDotTile;
    auto* sums = static_cast<std::uint32_t*>(args.sums);
    for (std::int64_t p = 0; p < args.n_panels; ++p) {
        const std::uint32_t* panel = args.panels + p * args.padded_depth * kWidth;
        for (std::int64_t row = 0; row < args.n_rows; row += kDotTile) {
            multiply_tile<Tiles, products>(args.padded_depth, args.rows + row * args.padded_depth,
                                           panel, sums + (p * args.n_rows + row) * kWidth,
                                           std::make_integer_sequence<int, kVectors>());
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
        for (std::int64_t row = 0; row < args.n_rows; row += kDotTile) {
            multiply_tile<Tiles, Products::by_unsigned>(
                args.padded_depth, args.rows + row * args.padded_depth, panel,
                args.sums + row * kWidth, std::make_integer_sequence<int, 4>());
            const std::int64_t rows = std::min(kDotTile, args.n_rows - row);
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
    static const bool supported = cpu_supports(Target::avx512) &&
                                  cpuid_bit(7, 0, CpuidRegister::edx, 22) &&
                                  cpuid_bit(7, 0, CpuidRegister::edx, 24) &&
                                  cpuid_bit(7, 0, CpuidRegister::edx, 25) && tiles_permitted();
    return supported;
}

template <class Tiles, DotType type>
constexpr DotBackend backend(const char* name, Target target, bool (*supported)()) {
    if constexpr (type == DotType::bfloat16) {
        return {name,       type,
                target,     supported,
                0,          Tiles::begin,
                Tiles::end, multiply<Tiles, Products::bfloat16>,
                nullptr,    0,
                0};
    } else {
        return {name,
                type,
                target,
                supported,
                0,
                Tiles::begin,
                Tiles::end,
                multiply<Tiles, Products::by_signed>,
                scan<Tiles>,
                0,
                0};
    }
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
