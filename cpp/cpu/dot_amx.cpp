// bfloat16 and 8-bit dot products with AMX tiles, and the same program on tiles in plain C++, so
// that its indices are tested on every machine.
#include <array>
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
    template <DotType type, int sum, int row, int weight>
    static void dot() {
        if constexpr (type == DotType::bfloat16) {
            asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(row),
                         "i"(weight));
        } else {
            asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(sum), "i"(row), "i"(weight));
        }
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
    template <DotType type, int sum, int row, int weight>
    static void dot() {
        for (std::size_t m = 0; m < kDotTile; ++m) {
            for (std::size_t n = 0; n < kDotTile; ++n) {
                for (std::size_t k = 0; k < kDotTile; ++k) {
                    add_word<type>(tile(sum)[m][n], tile(row)[m][k], tile(weight)[k][n]);
                }
            }
        }
    }

  private:
    template <DotType type>
    static void add_word(std::uint32_t& sum, std::uint32_t a, std::uint32_t b) {
        if constexpr (type == DotType::bfloat16) {
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
                const auto value = [&](std::uint32_t word) {
                    return static_cast<std::int32_t>(static_cast<std::int8_t>(word >> (8 * byte)));
                };
                sum += static_cast<std::uint32_t>(value(a) * value(b));
            }
        }
    }
};

// 16 rows against one panel: the row tile is loaded once for all vectors of the panel.
template <class Tiles, DotType type, int... vectors>
void multiply_tile(const DotArgs& args, const std::uint32_t* rows, const std::uint32_t* panel,
                   std::uint32_t* sums, std::integer_sequence<int, vectors...>) {
    constexpr std::int64_t kWidth = static_cast<std::int64_t>(sizeof...(vectors)) * kDotTile;
    constexpr std::int64_t kStride = kWidth * static_cast<std::int64_t>(sizeof(*panel));
    (Tiles::template zero<vectors>(), ...);
    for (std::int64_t k = 0; k < args.padded_depth; k += kDotTile) {
        Tiles::template load<kRowTile>(
            rows + k, args.padded_depth * static_cast<std::int64_t>(sizeof(*rows)));
        ((Tiles::template load<kWeightTile + vectors % 3>(panel + k * kWidth + vectors * kDotTile,
                                                          kStride),
          Tiles::template dot<type, vectors, kRowTile, kWeightTile + vectors % 3>()),
         ...);
    }
    (Tiles::template store<vectors>(sums + vectors * kDotTile, kStride), ...);
}

// A tile stores 16 rows of sums; what is too much is overwritten by the next one, or lies in the
// room that DotArgs promises.
template <class Tiles, DotType type, int kVectors>
void multiply_panels(const DotArgs& args) {
    constexpr std::int64_t kWidth = kVectors * kDotTile;
    auto* sums = static_cast<std::uint32_t*>(args.sums);
    for (std::int64_t p = 0; p < args.n_panels; ++p) {
        const std::uint32_t* panel = args.panels + p * args.padded_depth * kWidth;
        for (std::int64_t row = 0; row < args.n_rows; row += kDotTile) {
            multiply_tile<Tiles, type>(args, args.rows + row * args.padded_depth, panel,
                                       sums + (p * args.n_rows + row) * kWidth,
                                       std::make_integer_sequence<int, kVectors>());
        }
    }
}

template <class Tiles, DotType type>
void multiply(const DotArgs& args) {
    switch (args.n_vectors) {
        case 4: return multiply_panels<Tiles, type, 4>(args);
        case 3: return multiply_panels<Tiles, type, 3>(args);
        case 2: return multiply_panels<Tiles, type, 2>(args);
        default: return multiply_panels<Tiles, type, 1>(args);
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
    return {name, type, target, supported, 0, Tiles::begin, Tiles::end, multiply<Tiles, type>};
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
