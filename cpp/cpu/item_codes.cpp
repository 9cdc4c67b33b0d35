#include "cpu/item_codes.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/bfloat16.h"
#include "base/parallel.h"

namespace seqrec_fast {
namespace {

constexpr std::int64_t kRowsPerTask = 4096;

float peak_of(const float* row, std::int64_t dim) {
    float peak = 0, poison = 0;
    for (std::int64_t k = 0; k < dim; ++k) {
        peak = std::max(peak, std::abs(row[k]));
        poison += row[k] * 0;  // NaN for NaN and infinity
    }
    return poison == 0 ? peak : std::numeric_limits<float>::infinity();
}

bool has_nan(const float* row, std::int64_t dim) {
    bool any = false;
    for (std::int64_t k = 0; k < dim; ++k) {
        any |= row[k] != row[k];
    }
    return any;
}

class BlockWriter {
  public:
    BlockWriter(const PackedItems& items, const ItemStorage& storage)
        : items_(items),
          storage_(storage),
          row_(static_cast<std::size_t>(word_pairs(items.dim) * 8)),
          codes_(row_.size()) {}

    void put(std::int64_t position, const float* row) {
        for (std::int64_t k = 0; k < items_.dim; ++k) {
            set(position, k, row[k]);
        }
    }
    // Bounds and codes of a block, and NaN for the lanes beyond the last item.
    void encode(std::int64_t block) {
        const std::int64_t first = block * kItemBlock;
        const std::int64_t lanes = std::min(kItemBlock, items_.n_items - first);
        float peak = 0;
        BlockBounds bounds{1, 0, 0, 0, 0, 0};
        bool hopeless[kItemBlock] = {};
        for (std::int64_t lane = 0; lane < lanes; ++lane) {
            load(first + lane);
            const double bias = items_.bias == nullptr ? 0 : items_.bias[first + lane];
            hopeless[lane] = !(bias > -std::numeric_limits<double>::infinity()) ||
                             has_nan(row_.data(), items_.dim);
            if (hopeless[lane]) {
                ++bounds.n_hopeless;
                continue;
            }
            peak = std::max(peak, peak_of(row_.data(), items_.dim));
            bounds.bias = std::max(bounds.bias, std::abs(bias));
        }
        const bool finite = std::isfinite(peak) && std::isfinite(bounds.bias);
        if (finite && peak > 0) {
            bounds.scale = static_cast<double>(peak) / 127;
        }
        for (std::int64_t lane = 0; lane < kItemBlock; ++lane) {
            std::fill(codes_.begin(), codes_.end(), kZeroCode);
            if (lane >= lanes) {
                pad(first + lane);
            } else if (hopeless[lane]) {
                codes_[0] = kHopelessCode;
            } else if (finite) {
                load(first + lane);
                encode_row(bounds);
            }
            if (storage_.high != nullptr) {
                store_codes(block, lane);
            }
        }
        // Roots are rounded; a hair more keeps them bounds.
        constexpr double kMore = 1 + 1e-12;
        bounds.residual = std::sqrt(bounds.residual) * kMore;
        bounds.high_residual = std::sqrt(bounds.high_residual) * kMore;
        bounds.norm = std::sqrt(bounds.norm) * kMore;
        if (!finite) {
            bounds.residual = bounds.high_residual = bounds.norm =
                std::numeric_limits<double>::infinity();
        }
        storage_.bounds[block] = bounds;
    }

  private:
    static constexpr std::uint8_t kZeroCode = 128;

    std::int64_t at(std::int64_t position, std::int64_t k) const {
        return items_.has_codes()
                   ? position * items_.dim + k
                   : (position / kItemBlock * items_.dim + k) * kItemBlock + position % kItemBlock;
    }
    void set(std::int64_t position, std::int64_t k, float value) {
        if (storage_.float_vectors != nullptr) {
            storage_.float_vectors[at(position, k)] = value;
        } else {
            storage_.bfloat16_vectors[at(position, k)] = to_bfloat16(value);
        }
    }
    void load(std::int64_t position) {
        for (std::int64_t k = 0; k < items_.dim; ++k) {
            row_[static_cast<std::size_t>(k)] =
                storage_.float_vectors != nullptr
                    ? storage_.float_vectors[at(position, k)]
                    : from_bfloat16(storage_.bfloat16_vectors[at(position, k)]);
        }
    }
    void pad(std::int64_t position) {
        for (std::int64_t k = 0; k < items_.dim && !items_.has_codes(); ++k) {
            set(position, k, std::numeric_limits<float>::quiet_NaN());
        }
        if (storage_.bias != nullptr) {
            storage_.bias[position] = 0;
        }
    }
    // The codes of row_; bounds get the squares of the largest distances.
    void encode_row(BlockBounds& bounds) {
        const double inverse = 1 / bounds.scale;
        double residual = 0, high_residual = 0, norm = 0;
        for (std::int64_t k = 0; k < items_.dim; ++k) {
            const double value = row_[static_cast<std::size_t>(k)];
            const int code = static_cast<int>(std::lrint(value * inverse)) + kZeroCode;
            codes_[static_cast<std::size_t>(k)] = static_cast<std::uint8_t>(code);
            const double rest = value - bounds.scale * (code - kZeroCode);
            const double high_rest = value - bounds.scale * (16 * (code >> 4) + 7.5 - kZeroCode);
            residual += rest * rest;
            high_residual += high_rest * high_rest;
            norm += value * value;
        }
        bounds.residual = std::max(bounds.residual, residual);
        bounds.high_residual = std::max(bounds.high_residual, high_residual);
        bounds.norm = std::max(bounds.norm, norm);
    }
    void store_codes(std::int64_t block, std::int64_t lane) {
        const std::int64_t pairs = word_pairs(items_.dim);
        for (std::int64_t pair = 0; pair < pairs; ++pair) {
            const std::uint8_t* const codes = codes_.data() + pair * 8;
            const std::int64_t to = (block * pairs + pair) * kPairBytes + lane * 4;
            for (std::int64_t i = 0; i < 4; ++i) {
                const int first = codes[i], second = codes[i + 4];
                storage_.high[to + i] = static_cast<std::uint8_t>((first >> 4) | (second & 0xf0));
                storage_.low[to + i] =
                    static_cast<std::uint8_t>((first & 0x0f) | ((second & 0x0f) << 4));
            }
        }
    }

    const PackedItems& items_;
    const ItemStorage& storage_;
    std::vector<float> row_;
    std::vector<std::uint8_t> codes_;
};

}  // namespace

void item_peaks(const float* rows, std::int64_t n, std::int64_t dim, float* peaks) {
    parallel_for((n + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task) {
        const std::int64_t end = std::min(n, (task + 1) * kRowsPerTask);
        for (std::int64_t i = task * kRowsPerTask; i < end; ++i) {
            peaks[i] = has_nan(rows + i * dim, dim) ? 0 : peak_of(rows + i * dim, dim);
        }
    });
}

void write_items(const PackedItems& items, const ItemStorage& storage, const ItemWrite& write) {
    // The touched blocks, and where the positions of each begin.
    std::vector<std::int64_t> begins;
    for (std::int64_t i = 0; i < write.n; ++i) {
        if (i == 0 || write.positions[i] / kItemBlock != write.positions[i - 1] / kItemBlock) {
            begins.push_back(i);
        }
    }
    const auto n_blocks = static_cast<std::int64_t>(begins.size());
    begins.push_back(write.n);
    constexpr std::int64_t kBlocksPerTask = kRowsPerTask / kItemBlock;
    parallel_for((n_blocks + kBlocksPerTask - 1) / kBlocksPerTask, [&](std::int64_t task) {
        BlockWriter writer(items, storage);
        const std::int64_t end = std::min(n_blocks, (task + 1) * kBlocksPerTask);
        for (std::int64_t b = task * kBlocksPerTask; b < end; ++b) {
            const auto at = static_cast<std::size_t>(b);
            for (std::int64_t i = begins[at]; i < begins[at + 1]; ++i) {
                const std::int64_t source = write.sources[i];
                writer.put(write.positions[i], write.rows + source * items.dim);
                if (storage.bias != nullptr && write.bias != nullptr) {
                    storage.bias[write.positions[i]] = write.bias[source];
                }
            }
            writer.encode(write.positions[begins[at]] / kItemBlock);
        }
    });
}

}  // namespace seqrec_fast
