// A packed weight matrix in the precision that was asked for.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/aligned_buffer.h"
#include "base/precision.h"
#include "cpu/dot_backends.h"
#include "cpu/packed_panels.h"

namespace seqrec_fast {

Precision parse_precision(const std::string& name);  // "full" or a DotType's name

// Nothing for full precision.
std::optional<DotType> dot_type(Precision precision);

// Weights as words for the dot-product back ends. Column c of the product is the sum times
// scales[c].
struct PackedDots {
    DotType type = DotType::bfloat16;
    std::int64_t depth = 0;               // in words
    PackedPanels<std::uint32_t> words;    // depth padded to kDotTile
    AlignedBuffer<float> scales;          // (n_vectors * 16); empty for bfloat16: 1
    AlignedBuffer<std::int32_t> offsets;  // (n_vectors * 16), int8: -128 times the column's sum

    // Rounds `panels`: bfloat16 to the nearest, ties to even; int8 with one scale per column, so
    // that its largest magnitude becomes 127.
    PackedDots(const PackedPanels<float>& panels, DotType wanted);
    PackedDots() = default;
};

template <class T>
struct PackedMatrix {
    PackedPanels<T> panels;  // of full precision; without data if there are dots
    PackedDots dots;

    PackedMatrix() = default;
    PackedMatrix(PackedPanels<T> full, Precision precision);

    bool reduced() const { return dots.words.depth() > 0; }
    bool present() const { return panels.depth() > 0 || reduced(); }
    std::int64_t nbytes() const;
};

}  // namespace seqrec_fast
