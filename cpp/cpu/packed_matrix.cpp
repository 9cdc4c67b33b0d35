#include "cpu/packed_matrix.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <utility>

#include "base/bfloat16.h"

namespace seqrec_fast {
Precision parse_precision(const std::string& name) {
    if (name == "full") {
        return Precision::full;
    }
    return parse_dot_type(name) == DotType::bfloat16 ? Precision::bfloat16 : Precision::int8;
}

std::optional<DotType> dot_type(Precision precision) {
    switch (precision) {
        case Precision::full: return std::nullopt;
        case Precision::bfloat16: return DotType::bfloat16;
        case Precision::int8: return DotType::int8;
    }
    return std::nullopt;
}

namespace {

// Whole terms at a time: training packs its weights in every call.
void pack_bfloat16(const PackedPanels<float>& panels, PackedPanels<std::uint32_t>& words) {
    std::uint32_t pair[kMaxPanelVectors * kPackedLanes<float>];
    for (std::int64_t p = 0; p < panels.n_panels(); ++p) {
        const std::int64_t width = panels.vectors_in(p) * kPackedLanes<float>;
        const float* term = panels.panel(p);
        for (std::int64_t word = 0; word < words.depth(); ++word, term += 2 * width) {
            const std::int64_t left = std::max<std::int64_t>(0, panels.depth() - 2 * word);
            for (std::int64_t i = 0; i < width && left > 0; ++i) {
                const std::uint32_t second = left > 1 ? to_bfloat16(term[width + i]) : 0U;
                pair[i] = to_bfloat16(term[i]) | second << 16;
            }
            words.fill_panel_term(p, word, pair, left > 0 ? width : 0);
        }
    }
}

}  // namespace

PackedDots::PackedDots(const PackedPanels<float>& panels, DotType wanted)
    : type(wanted),
      depth((panels.depth() + values_per_word(type) - 1) / values_per_word(type)),
      words(panels.n_vectors() * kPackedLanes<float>, padded_to_dot_tiles(depth),
            panels.panel_vectors()) {
    if (type == DotType::bfloat16) {
        pack_bfloat16(panels, words);
        return;
    }
    constexpr std::int64_t kLanes = kPackedLanes<float>;
    constexpr float kSmallest = 1e-30F;  // below it 127 / largest would overflow
    const std::int64_t terms = panels.depth(), per_word = values_per_word(type);
    const auto columns = static_cast<std::size_t>(panels.n_vectors() * kLanes);
    scales = AlignedBuffer<float>(columns);
    offsets = AlignedBuffer<std::int32_t>(columns);
    offsets.fill_zero();
    for (std::int64_t vector = 0; vector < panels.n_vectors(); ++vector) {
        const auto weight = [&](std::int64_t lane, std::int64_t k) {
            return k < terms ? panels.at(vector, lane, k) : 0.0F;
        };
        float inverse[kLanes] = {};
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
            float largest = 0;
            for (std::int64_t k = 0; k < terms; ++k) {
                largest = std::max(largest, std::abs(weight(lane, k)));
            }
            scales.data()[vector * kLanes + lane] = largest / 127;
            inverse[lane] = largest > kSmallest ? 127 / largest : 0;
        }
        words.fill_vector(vector, [&](std::int64_t lane, std::int64_t word) {
            std::uint32_t bits = 0;
            for (std::int64_t i = 0; i < per_word; ++i) {
                const float w = weight(lane, word * per_word + i);
                const auto q = static_cast<std::int32_t>(std::nearbyint(w * inverse[lane]));
                offsets.data()[vector * kLanes + lane] -= 128 * q;
                bits |= static_cast<std::uint32_t>(q & 0xff) << (8 * i);
            }
            return bits;
        });
    }
}

template <class T>
PackedMatrix<T>::PackedMatrix(PackedPanels<T> full, Precision precision) {
    if constexpr (std::is_same_v<T, float>) {
        if (precision != Precision::full && full.depth() > 0) {
            dots = PackedDots(full, *dot_type(precision));
            return;
        }
    }
    panels = std::move(full);
}

template <class T>
std::int64_t PackedMatrix<T>::nbytes() const {
    return panels.nbytes() + dots.words.nbytes() +
           static_cast<std::int64_t>(dots.scales.size() * sizeof(float) +
                                     dots.offsets.size() * sizeof(std::int32_t));
}

template struct PackedMatrix<float>;
template struct PackedMatrix<double>;

}  // namespace seqrec_fast
