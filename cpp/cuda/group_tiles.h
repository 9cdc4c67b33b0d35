// Tiles of rows that are all of one group, without counting them first: the tiles of group m are
// numbered from offsets[m] / tile_rows + m on, which leaves room for all of them, and some over.
#pragma once

#include <cstdint>

#include "cells/target_macros.h"
#include "cuda/scan.h"

namespace seqrec_fast {
namespace cuda {

struct GroupTile {
    std::int64_t group;          // -1: none
    std::int64_t begin, length;  // its rows
    std::int64_t place;          // among its tiles
    std::int64_t first, count;   // rows of the tile
};

// How many there are, for all groups.
inline std::int64_t group_tiles(std::int64_t rows, std::int64_t groups, std::int64_t tile_rows) {
    return rows / tile_rows + groups;
}

// Every group has a tile 0, empty ones too. All threads of the block ask for the same tile. Tiles
// of offsets that are no partition of the rows are empty where these lead out of them.
SEQREC_FN GroupTile group_tile(const std::int64_t* offsets, std::int64_t groups, std::int64_t rows,
                               std::int64_t tile_rows, std::int64_t tile) {
    const auto number = [&](std::int64_t m) { return offsets[m] / tile_rows + m; };
    const std::int64_t group = warp_count_up_to(groups, tile, number) - 1;
    if (group < 0) {
        return {-1, 0, 0, 0, 0, 0};
    }
    const std::int64_t place = tile - number(group), begin = offsets[group];
    const std::int64_t end = offsets[group + 1] < rows ? offsets[group + 1] : rows;
    if (begin < 0 || end <= begin || place < 0) {
        return {group, 0, 0, place, 0, 0};
    }
    const std::int64_t first = begin + place * tile_rows, left = end - first;
    const std::int64_t count = left < 0 ? 0 : left < tile_rows ? left : tile_rows;
    return {group, begin, end - begin, place, count == 0 ? 0 : first, count};
}

}  // namespace cuda
}  // namespace seqrec_fast
