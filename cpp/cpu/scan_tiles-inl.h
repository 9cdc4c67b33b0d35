// Register tiles that scan 8-bit codes of items: sums are compared where they are, and only one bit
// per item leaves the registers. See ScanArgs.
//
// No include guard: each int8 back end includes it after dot_tiles-inl.h. Isa gives in addition
//     Items                              a register of kLanes words of codes
//     kCodeOffset                        what `items` takes from each code: 0 or 128
//     items(const std::uint32_t*), dot_items(Sum, Items, Row)
//     start_items(const float* bias, float scale), zero()
//     at_least(Sum, std::int32_t) -> a bit per lane
//     kRowsFromHalves                    as DotBackend has it; if it is not 0, Items is a vector
//     type

// Where codes come from: panels, or halves that are put together in registers.
enum class Codes { panels, upper_halves, both_halves };

// Two words of each of a vector's items, the first from the lower four bits.
template <Codes kCodes>
inline __attribute__((always_inline)) void join_halves(const std::uint8_t* high,
                                                       const std::uint8_t* low,
                                                       typename Isa::Items (&words)[2]) {
    using Items = typename Isa::Items;
    using Bits = std::uint64_t __attribute__((vector_size(sizeof(Items))));
    const Bits lower = Bits{} | 0x0f0f0f0f0f0f0f0fU;
    const auto* words_high = reinterpret_cast<const std::uint32_t*>(high);
    const Bits h = reinterpret_cast<Bits>(Isa::items(words_high));
    __builtin_prefetch(high + kCodeBytesAhead, 0, 2);
    Bits first = h & lower, second = (h >> 4) & lower;
    if constexpr (kCodes == Codes::both_halves) {
        const auto* words_low = reinterpret_cast<const std::uint32_t*>(low);
        const Bits l = reinterpret_cast<Bits>(Isa::items(words_low));
        __builtin_prefetch(low + kCodeBytesAhead, 0, 2);
        first = (first << 4) | (l & lower);
        second = (h & ~lower) | ((l >> 4) & lower);
    }
    words[0] = reinterpret_cast<Items>(first);
    words[1] = reinterpret_cast<Items>(second);
}

template <int kRows, bool kBias, Codes kCodes>
inline __attribute__((always_inline)) void scan_tile(const ScanArgs& args, std::int64_t panel,
                                                     std::int64_t row0, std::int64_t lane) {
    constexpr int kVectors = 4;
    constexpr std::int64_t kWidth = kVectors * kTileLanes;
    const std::uint32_t* rows = args.rows + row0 * args.padded_depth;
    const std::int64_t at = panel * args.n_rows + row0;
    typename Isa::Sum sums[kRows][kVectors];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            if constexpr (kBias) {
                sums[r][v] = Isa::start_items(args.bias + panel * kWidth + v * kTileLanes + lane,
                                              args.bias_scales[at + r]);
            } else {
                sums[r][v] = Isa::zero();
            }
        }
    }
    if constexpr (kCodes == Codes::panels) {
        const std::uint32_t* codes = args.panels + panel * args.padded_depth * kWidth + lane;
        for (std::int64_t k = 0; k < args.depth; ++k) {
            typename Isa::Items items[kVectors];
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                items[v] = Isa::items(codes + k * kWidth + v * kTileLanes);
            }
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                const typename Isa::Row a = Isa::broadcast(rows[r * args.padded_depth + k]);
#pragma GCC unroll 4
                for (int v = 0; v < kVectors; ++v) {
                    sums[r][v] = Isa::dot_items(sums[r][v], items[v], a);
                }
            }
        }
    } else {
        constexpr std::int64_t kBytes = kWidth * 4;  // of the halves of a pair of words
        const std::int64_t pairs = (args.depth + 1) / 2, first = panel * pairs * kBytes + lane * 4;
        for (std::int64_t pair = 0; pair < pairs; ++pair) {
            typename Isa::Items items[kVectors][2];
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t byte = first + pair * kBytes + v * kTileLanes * 4;
                join_halves<kCodes>(args.high + byte, args.low + byte, items[v]);
            }
#pragma GCC unroll 2
            for (int half = 0; half < 2; ++half) {
#pragma GCC unroll 8
                for (int r = 0; r < kRows; ++r) {
                    const typename Isa::Row a =
                        Isa::broadcast(rows[r * args.padded_depth + 2 * pair + half]);
#pragma GCC unroll 4
                    for (int v = 0; v < kVectors; ++v) {
                        sums[r][v] = Isa::dot_items(sums[r][v], items[v][half], a);
                    }
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
        std::uint64_t hits = 0;
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) {
            const std::uint64_t lanes = Isa::at_least(sums[r][v], args.thresholds[at + r]);
            hits |= lanes << (v * kTileLanes);
        }
        if (hits != 0) {
            args.hits[at + r] |= hits << lane;
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                Isa::store(args.sums + (row0 + r) * kWidth + v * kTileLanes + lane, sums[r][v]);
            }
        }
    }
}

template <bool kBias, Codes kCodes>
inline __attribute__((always_inline)) void scan_rows(const ScanArgs& args) {
    constexpr int kMost = Isa::kAccumulators >= 24 ? 6 : Isa::kAccumulators >= 12 ? 3 : 2;
    constexpr int kRows = kCodes == Codes::panels ? kMost : 1;
    for (std::int64_t panel = 0; panel < args.n_panels; ++panel) {
        for (std::int64_t lane = 0; lane < kTileLanes; lane += Isa::kLanes) {
            std::int64_t row = 0;
            for (; row + kRows <= args.n_rows; row += kRows) {
                scan_tile<kRows, kBias, kCodes>(args, panel, row, lane);
            }
            if constexpr (kRows > 4) {
                if (row + 4 <= args.n_rows) {
                    scan_tile<4, kBias, kCodes>(args, panel, row, lane);
                    row += 4;
                }
            }
            if constexpr (kRows > 2) {
                if (row + 2 <= args.n_rows) {
                    scan_tile<2, kBias, kCodes>(args, panel, row, lane);
                    row += 2;
                }
            }
            for (; row < args.n_rows; ++row) {
                scan_tile<1, kBias, kCodes>(args, panel, row, lane);
            }
        }
    }
}

template <Codes kCodes>
inline __attribute__((always_inline)) void scan_codes(const ScanArgs& args) {
    if (args.bias != nullptr) {
        scan_rows<true, kCodes>(args);
    } else {
        scan_rows<false, kCodes>(args);
    }
}

template <class AnyIsa>  // so that only those are compiled that it has
inline void scan_whatever(const ScanArgs& args) {
    for (std::int64_t i = 0; i < args.n_panels * args.n_rows; ++i) {
        args.hits[i] = 0;
    }
    if constexpr (AnyIsa::kRowsFromHalves > 0) {
        if (args.panels == nullptr && args.low == nullptr) {
            return scan_codes<Codes::upper_halves>(args);
        }
        if (args.panels == nullptr) {
            return scan_codes<Codes::both_halves>(args);
        }
    }
    scan_codes<Codes::panels>(args);
}

inline void scan(const ScanArgs& args) {
    scan_whatever<Isa>(args);
}
