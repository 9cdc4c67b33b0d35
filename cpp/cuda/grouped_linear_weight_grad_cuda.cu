// Gradients of the weights of grouped linear layers on a GPU: the product of dy' and x over the
// rows of every group.
//
// A block has a tile of 64 x 64 of one group's gradient and at most some rows of it, 16 at a time
// in shared memory; a thread has 4 x 4 elements. Groups of more rows are added up from the sums of
// their parts, in order. Bound by the multiply-adds and the reads of shared memory.
#include <cmath>

#include "cuda/group_tiles.h"
#include "cuda/grouped_linear_kernels.h"
#include "cuda/launch.h"
#include "cuda/row_tiles.h"

namespace seqrec_fast {
namespace cuda {
namespace {

constexpr int kThreads = 256, kSide = 64, kDepth = 16, kEach = 4;
constexpr std::int64_t kLeastPartRows = 1024, kMostParts = 256;

// Of a group's rows in a part: by the number of all rows alone, which the host knows.
std::int64_t part_rows(std::int64_t rows) {
    const std::int64_t even = (rows + kMostParts - 1) / kMostParts;
    return (even < kLeastPartRows ? kLeastPartRows : even + kDepth - 1) / kDepth * kDepth;
}
// Numbers of parts of groups with more than one: those of group m begin at 2 offsets[m] /
// part_rows, which is far enough from the next's.
__host__ __device__ std::int64_t first_part(std::int64_t offset, std::int64_t rows_of_part) {
    return 2 * offset / rows_of_part;
}

// kEach columns of a row from one on; zeros where there are none.
template <class T>
struct Columns {
    static constexpr int kPieces = kEach / Piece<T>::kValues;
    Piece<T> pieces[kPieces];

    SEQREC_FN T operator[](int i) const {
        return pieces[i / Piece<T>::kValues].values[i % Piece<T>::kValues];
    }
    SEQREC_FN void fetch(const RowsOf<T>& rows, bool in_pieces, std::int64_t row,
                         std::int64_t column) {
        const T* const from = rows.data + row * rows.dim + column;
        const std::int64_t left = row < rows.count ? rows.dim - column : 0;
        SEQREC_UNROLL
        for (int p = 0; p < kPieces; ++p) {
            const int at = p * Piece<T>::kValues;
            if (in_pieces) {
                pieces[p] = at < left ? *reinterpret_cast<const Piece<T>*>(from + at) : Piece<T>{};
                continue;
            }
            SEQREC_UNROLL
            for (int i = 0; i < Piece<T>::kValues; ++i) {
                pieces[p].values[i] = at + i < left ? from[at + i] : T(0);
            }
        }
    }
    SEQREC_FN static Columns load(const T* shared) {
        Columns columns;
        SEQREC_UNROLL
        for (int p = 0; p < kPieces; ++p) {
            columns.pieces[p] = *reinterpret_cast<const Piece<T>*>(shared + p * Piece<T>::kValues);
        }
        return columns;
    }
    SEQREC_FN void store(T* shared) const {
        SEQREC_UNROLL
        for (int p = 0; p < kPieces; ++p) {
            *reinterpret_cast<Piece<T>*>(shared + p * Piece<T>::kValues) = pieces[p];
        }
    }
};

template <class T>
struct WeightGradTile {
    alignas(16) T dy[kDepth][kSide];
    alignas(16) T x[kDepth][kSide];
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    grouped_weight_grad_kernel(GroupedLinearArgs<T> args, std::int64_t rows,
                               std::int64_t rows_of_part, std::int64_t in_tiles,
                               std::int64_t out_tiles, T* workspace) {
    SEQREC_SHARED WeightGradTile<T> shared;
    const std::int64_t side = blockIdx.x % (in_tiles * out_tiles);
    const GroupTile part = group_tile(args.offsets, args.groups, rows, rows_of_part,
                                      blockIdx.x / (in_tiles * out_tiles));
    if (part.group < 0 || (part.count == 0 && part.place != 0)) {
        return;
    }
    const std::int64_t in_tile = side % in_tiles;
    const std::int64_t first_in = in_tile * kSide, first_out = side / in_tiles * kSide;
    const RowsOf<T> dy{args.dy + part.first * args.out, part.count, args.out};
    const RowsOf<T> x{args.x + part.first * args.in, part.count, args.in};
    const bool dy_in_pieces = dy.in_pieces(), x_in_pieces = x.in_pieces();
    const auto thread = static_cast<int>(threadIdx.x);
    // What the thread brings to shared memory, and its place in the gradient.
    const int row = thread / kDepth, column = thread % kDepth * kEach;
    const int own_out = thread / kDepth * kEach, own_in = thread % kDepth * kEach;
    T sums[kEach][kEach] = {}, bias_sums[kEach] = {};
    Columns<T> next_dy, next_x;
    const auto fetch = [&](int first) {
        next_dy.fetch(dy, dy_in_pieces, first + row, first_out + column);
        next_x.fetch(x, x_in_pieces, first + row, first_in + column);
    };
    const auto count = static_cast<int>(part.count);
    fetch(0);
    SEQREC_NO_UNROLL
    for (int first = 0; first < count; first += kDepth) {
        __syncthreads();
        next_dy.store(&shared.dy[row][column]);
        next_x.store(&shared.x[row][column]);
        __syncthreads();
        if (first + kDepth < count) {
            fetch(first + kDepth);
        }
        SEQREC_UNROLL
        for (int k = 0; k < kDepth; ++k) {
            const auto left = Columns<T>::load(&shared.dy[k][own_out]);
            const auto right = Columns<T>::load(&shared.x[k][own_in]);
            SEQREC_UNROLL
            for (int o = 0; o < kEach; ++o) {
                bias_sums[o] += left[o];
                SEQREC_UNROLL
                for (int i = 0; i < kEach; ++i) {
                    sums[o][i] = std::fma(left[o], right[i], sums[o][i]);
                }
            }
        }
    }
    // Where a group is one part its sums are the gradient.
    const std::int64_t size = args.out * args.in;
    T *weight_to = nullptr, *bias_to = nullptr;
    if (part.length <= rows_of_part) {
        weight_to = args.dweight == nullptr ? nullptr : args.dweight + part.group * size;
        bias_to = args.dbias == nullptr ? nullptr : args.dbias + part.group * args.out;
    } else {
        weight_to =
            workspace + (first_part(part.begin, rows_of_part) + part.place) * (size + args.out);
        bias_to = weight_to + size;
    }
    SEQREC_UNROLL
    for (int o = 0; o < kEach; ++o) {
        const std::int64_t out = first_out + own_out + o;
        if (out >= args.out) {
            continue;
        }
        if (bias_to != nullptr && in_tile == 0 && own_in == 0) {
            bias_to[out] = bias_sums[o];
        }
        SEQREC_UNROLL
        for (int i = 0; i < kEach; ++i) {
            const std::int64_t in = first_in + own_in + i;
            if (weight_to != nullptr && in < args.in) {
                weight_to[out * args.in + in] = sums[o][i];
            }
        }
    }
}

// A block adds up some elements of the group that has row `boundary` * rows_of_part, if that is the
// first such row in it: every group of several parts has one.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_parts_kernel(GroupedLinearArgs<T> args, std::int64_t rows, std::int64_t rows_of_part,
                     std::int64_t blocks_of_group, const T* workspace) {
    const std::int64_t row = blockIdx.x / blocks_of_group * rows_of_part;
    const std::int64_t group =
        warp_count_up_to(args.groups, row, [&](std::int64_t m) { return args.offsets[m]; }) - 1;
    if (group < 0) {
        return;
    }
    const std::int64_t begin = args.offsets[group], length = args.offsets[group + 1] - begin;
    if (begin < 0 || begin + length > rows || length <= rows_of_part ||
        row - begin >= rows_of_part) {
        return;
    }
    const std::int64_t size = args.out * args.in, all = size + args.out;
    const std::int64_t i = blockIdx.x % blocks_of_group * kThreads + threadIdx.x;
    if (i >= all) {
        return;
    }
    const T* const parts = workspace + first_part(begin, rows_of_part) * all + i;
    const std::int64_t count = (length + rows_of_part - 1) / rows_of_part;
    T sum = 0;
    for (std::int64_t p = 0; p < count; ++p) {
        sum += parts[p * all];
    }
    if (i < size && args.dweight != nullptr) {
        args.dweight[group * size + i] = sum;
    }
    if (i >= size && args.dbias != nullptr) {
        args.dbias[group * args.out + i - size] = sum;
    }
}

}  // namespace
}  // namespace cuda

std::int64_t grouped_linear_workspace(std::int64_t rows, std::int64_t in, std::int64_t out) {
    const std::int64_t rows_of_part = cuda::part_rows(rows);
    return rows <= rows_of_part ? 0 : (cuda::first_part(rows, rows_of_part) + 1) * out * (in + 1);
}

template <class T>
void grouped_linear_weight_grad_cuda(const GroupedLinearArgs<T>& args, std::int64_t rows,
                                     T* workspace, cudaStream_t stream) {
    using cuda::kSide;
    using cuda::kThreads;
    const std::int64_t rows_of_part = cuda::part_rows(rows);
    const auto tiles_of = [](std::int64_t n) { return (n + kSide - 1) / kSide; };
    // The first also sums for the bias.
    const std::int64_t in_tiles = args.in == 0 ? 1 : tiles_of(args.in);
    const std::int64_t out_tiles = tiles_of(args.out);
    const std::int64_t parts = cuda::group_tiles(rows, args.groups, rows_of_part);
    cuda::launch("grouped_linear", cuda::grouped_weight_grad_kernel<T>,
                 {parts * in_tiles * out_tiles, kThreads}, stream, args, rows, rows_of_part,
                 in_tiles, out_tiles, workspace);
    if (rows > rows_of_part) {
        const std::int64_t blocks = (args.out * (args.in + 1) + kThreads - 1) / kThreads;
        cuda::launch("grouped_linear", cuda::add_parts_kernel<T>,
                     {((rows - 1) / rows_of_part + 1) * blocks, kThreads}, stream, args, rows,
                     rows_of_part, blocks, static_cast<const T*>(workspace));
    }
}

#define SEQREC_INSTANTIATE(T)                                                                    \
    template void grouped_linear_weight_grad_cuda(const GroupedLinearArgs<T>&, std::int64_t, T*, \
                                                  cudaStream_t)
SEQREC_INSTANTIATE(float);
SEQREC_INSTANTIATE(double);
#undef SEQREC_INSTANTIATE

}  // namespace seqrec_fast
