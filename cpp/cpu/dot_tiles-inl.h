// Register tiles of the dot-product back ends.
//
// No include guard: each back end includes it inside its own namespace, after `Isa` and under its
// compiler options. Isa gives
//     Sum, Weight, Row   registers of kLanes sums, of as many words, of one word in every lane
//     kAccumulators      sums that stay in registers beside the operands
//     start(const std::int32_t* offset)   what sums start from: zero, or what takes a bias back
//     store(void*, Sum)
//     load(const std::uint32_t*), broadcast(std::uint32_t), dot(Sum, Row, Weight)
// Every sum is one chain in the order of k, whatever the tile, so that a row's sums do not depend
// on the batch it came in.

constexpr std::int64_t kTileLanes = 16;  // of a packed vector

template <int kRows, int kPanels, int kVectors>
inline __attribute__((always_inline)) void dot_tile(const DotArgs& args, std::int64_t panel0,
                                                    std::int64_t row0, std::int64_t lane) {
    constexpr std::int64_t kWidth = kVectors * kTileLanes;
    const std::int64_t panel_size = args.padded_depth * kWidth;
    const std::uint32_t* weights = args.panels + panel0 * panel_size + lane;
    const std::uint32_t* rows = args.rows + row0 * args.padded_depth;
    typename Isa::Sum sums[kRows][kPanels][kVectors];
#pragma GCC unroll 8
    for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) {
            const std::int32_t* offset =
                args.offsets == nullptr
                    ? nullptr
                    : args.offsets + (panel0 + p) * kWidth + v * kTileLanes + lane;
            const typename Isa::Sum start = Isa::start(offset);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                sums[r][p][v] = start;
            }
        }
    }
    const auto weight = [&](std::int64_t k, int p, int v) __attribute__((always_inline)) {
        return Isa::load(weights + p * panel_size + k * kWidth + v * kTileLanes);
    };
    // The side that takes fewer registers is held, beside the sums; of the other one at a time.
    constexpr bool kHoldsRows =
        sizeof(typename Isa::Row) * kRows < sizeof(typename Isa::Weight) * kPanels * kVectors;
    for (std::int64_t k = 0; k < args.depth; ++k) {
        if constexpr (kHoldsRows) {
            typename Isa::Row a[kRows];
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                a[r] = Isa::broadcast(rows[r * args.padded_depth + k]);
            }
#pragma GCC unroll 8
            for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 8
                for (int v = 0; v < kVectors; ++v) {
                    const typename Isa::Weight w = weight(k, p, v);
#pragma GCC unroll 8
                    for (int r = 0; r < kRows; ++r) {
                        sums[r][p][v] = Isa::dot(sums[r][p][v], a[r], w);
                    }
                }
            }
        } else {
            typename Isa::Weight w[kPanels][kVectors];
#pragma GCC unroll 8
            for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 8
                for (int v = 0; v < kVectors; ++v) {
                    w[p][v] = weight(k, p, v);
                }
            }
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                const typename Isa::Row a = Isa::broadcast(rows[r * args.padded_depth + k]);
#pragma GCC unroll 8
                for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 8
                    for (int v = 0; v < kVectors; ++v) {
                        sums[r][p][v] = Isa::dot(sums[r][p][v], a, w[p][v]);
                    }
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
        for (int p = 0; p < kPanels; ++p) {
#pragma GCC unroll 8
            for (int v = 0; v < kVectors; ++v) {
                const std::int64_t at =
                    ((panel0 + p) * args.n_rows + row0 + r) * kWidth + v * kTileLanes + lane;
                Isa::store(static_cast<std::uint32_t*>(args.sums) + at, sums[r][p][v]);
            }
        }
    }
}

template <int kPanels, int kVectors>
inline __attribute__((always_inline)) void dot_panels(const DotArgs& args, std::int64_t panel) {
    constexpr int kFit = Isa::kAccumulators / (kVectors * kPanels);
    constexpr int kRows = kPanels > 1 ? 1 : kFit >= 8 ? 8 : kFit >= 6 ? 6 : kFit >= 4 ? 4 : 2;
    for (std::int64_t lane = 0; lane < kTileLanes; lane += Isa::kLanes) {
        std::int64_t row = 0;
        if constexpr (kRows > 1) {
            for (; row + kRows <= args.n_rows; row += kRows) {
                dot_tile<kRows, kPanels, kVectors>(args, panel, row, lane);
            }
        }
        if constexpr (kRows > 2) {
            for (; row + 2 <= args.n_rows; row += 2) {
                dot_tile<2, kPanels, kVectors>(args, panel, row, lane);
            }
        }
        for (; row < args.n_rows; ++row) {
            dot_tile<1, kPanels, kVectors>(args, panel, row, lane);
        }
    }
}

template <int kVectors>
void dot_product(const DotArgs& args) {
    std::int64_t panel = 0;
    if (args.n_rows == 1) {
        // One row gives too few independent sums to hide the latency; neighbouring panels help.
        for (; panel + 2 <= args.n_panels; panel += 2) {
            dot_panels<2, kVectors>(args, panel);
        }
    }
    for (; panel < args.n_panels; ++panel) {
        dot_panels<1, kVectors>(args, panel);
    }
}

inline void multiply(const DotArgs& args) {
    switch (args.n_vectors) {
        case 4: return dot_product<4>(args);
        case 3: return dot_product<3>(args);
        case 2: return dot_product<2>(args);
        default: return dot_product<1>(args);
    }
}
