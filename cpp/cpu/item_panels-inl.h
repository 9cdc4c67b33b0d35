// A table taken 64 bytes * 4 of items at a time: what losses over items share.

// Per-target include guard
#if defined(SEQREC_CPU_ITEM_PANELS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef SEQREC_CPU_ITEM_PANELS_INL_H_
#undef SEQREC_CPU_ITEM_PANELS_INL_H_
#else
#define SEQREC_CPU_ITEM_PANELS_INL_H_
#endif

#include <algorithm>
#include <vector>

#include "base/bfloat16.h"
#include "base/precision.h"
#include "cpu/bfloat16_pairs-inl.h"
#include "cpu/dot_product-inl.h"

HWY_BEFORE_NAMESPACE();
namespace seqrec_fast {
namespace HWY_NAMESPACE {

// Items of a panel: their scores are the columns of one register tile.
template <class T>
constexpr std::int64_t kPanelItems = kMaxPanelVectors * kPackedLanes<T>;

// Rows of hidden at a time: a multiple of every register tile's rows, and few enough that their
// gradients with respect to a panel's scores stay in L1.
constexpr std::int64_t kRowsPerTile = 96;

// to[row] += the product's row; `to` has `stride` values a row, a multiple of the packed lanes.
template <class T>
struct AddToRowsOp : SumsFromZero<T> {
    HWY_INLINE AddToRowsOp part(std::int64_t block) const {
        return {{}, to + block * kPackedLanes<T>, stride};
    }
    template <int kVectors>
    HWY_INLINE void finish(std::int64_t row, std::int64_t lane,
                           const hn::Vec<Lanes<T>> (&acc)[kVectors]) const {
        const Lanes<T> d;
        for (int v = 0; v < kVectors; ++v) {
            T* sum = to + row * stride + v * kPackedLanes<T> + lane;
            hn::StoreU(hn::Add(hn::LoadU(d, sum), acc[v]), d, sum);
        }
    }

    T* to;
    std::int64_t stride;
};

// The same where the rows of the product are columns of the left matrix, kPanelItems wide.
template <class T>
struct AddColumnsOp : AddToRowsOp<T> {
    static constexpr std::int64_t row_step = kPanelItems<T>;
    HWY_INLINE AddColumnsOp part(std::int64_t block) const { return {AddToRowsOp<T>::part(block)}; }
};

// The rows of hidden that have a target, as the operands of all products: row by row for scores,
// and, tile by tile, as terms of the gradient of the items.
template <class T>
class HiddenTiles {
  public:
    HiddenTiles(const std::vector<const T*>& rows, std::int64_t dim, Precision precision,
                bool for_items)
        : rows_(rows), dim_(dim), reduced_(precision != Precision::full) {
        const std::int64_t n = n_rows();
        if (reduced_) {
            if constexpr (std::is_same_v<T, float>) {
                depth_ = padded_to_dot_tiles((dim + 1) / 2);
                words_ = zeros(padded_to_dot_tiles(n) * depth_);
                for (std::int64_t r = 0; r < n; ++r) {
                    round_to_bfloat16(rows_[size(r)], dim, halves(words_, r * depth_));
                }
            }
        }
        if (for_items && reduced_) {
            turn();
        } else if (for_items) {
            pack_terms();
        }
    }

    std::int64_t n_rows() const { return static_cast<std::int64_t>(rows_.size()); }
    std::int64_t n_tiles() const { return (n_rows() + kRowsPerTile - 1) / kRowsPerTile; }
    std::int64_t rows_in(std::int64_t tile) const {
        return std::min(kRowsPerTile, n_rows() - tile * kRowsPerTile);
    }
    std::int64_t dim() const { return dim_; }
    bool reduced() const { return reduced_; }

    const T* const* rows(std::int64_t tile) const { return rows_.data() + tile * kRowsPerTile; }
    DotRows words(std::int64_t tile) const {
        return {const_cast<std::uint32_t*>(words_.data()) + tile * kRowsPerTile * depth_, nullptr};
    }
    // The tile's rows as terms of a product.
    const PackedPanels<T>& terms(std::int64_t tile) const { return terms_[size(tile)]; }
    // (padded dim, kTurnedDepth)
    const std::uint32_t* turned_words(std::int64_t tile) const {
        return turned_words_.data() + tile * padded_to_dot_tiles(dim_) * kTurnedDepth;
    }
    static constexpr std::int64_t kTurnedDepth = kRowsPerTile / 2;

  private:
    static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }
    static AlignedBuffer<std::uint32_t> zeros(std::int64_t n) {
        AlignedBuffer<std::uint32_t> buffer(size(n));
        buffer.fill_zero();
        return buffer;
    }
    static std::uint16_t* halves(AlignedBuffer<std::uint32_t>& words, std::int64_t at) {
        return reinterpret_cast<std::uint16_t*>(words.data() + at);
    }

    void pack_terms() {
        for (std::int64_t tile = 0; tile < n_tiles(); ++tile) {
            terms_.emplace_back(dim_, rows_in(tile), kMaxPanelVectors);
            for (std::int64_t r = 0; r < rows_in(tile); ++r) {
                terms_.back().fill_term(r, rows(tile)[r], dim_);
            }
        }
    }

    void turn() {
        const std::int64_t padded = padded_to_dot_tiles(dim_);
        turned_words_ = zeros(n_tiles() * padded * kTurnedDepth);
        for (std::int64_t r = 0; r < n_rows(); ++r) {
            const std::int64_t tile = r / kRowsPerTile, row = r % kRowsPerTile;
            std::uint16_t* to = halves(turned_words_, tile * padded * kTurnedDepth) + row;
            for (std::int64_t k = 0; k < dim_; ++k) {
                to[k * kRowsPerTile] = to_bfloat16(static_cast<float>(rows_[size(r)][k]));
            }
        }
    }

    const std::vector<const T*>& rows_;
    std::int64_t dim_, depth_ = 0;
    bool reduced_;
    AlignedBuffer<std::uint32_t> words_, turned_words_;
    std::vector<PackedPanels<T>> terms_;
};

// One panel of items: their vectors as columns (scores), and as rows (gradient of hidden).
template <class T>
class ItemPanel {
  public:
    ItemPanel(std::int64_t dim, Precision precision, bool gradients)
        : dim_(dim),
          precision_(precision),
          columns_(kPanelItems<T>, dim, kMaxPanelVectors),
          rows_(gradients ? PackedPanels<T>(dim, kPanelItems<T>, kMaxPanelVectors)
                          : PackedPanels<T>()),
          sums_(static_cast<std::size_t>(
              precision == Precision::full
                  ? 0
                  : (2 * padded_to_dot_tiles(std::max(kRowsPerTile, dim)) + kDotTile) *
                        kPanelItems<T>)) {
        words_ = AlignedBuffer<std::uint32_t>(
            static_cast<std::size_t>(sums_.size() == 0 ? 0 : kRowsPerTile / 2 * kPanelItems<T>));
    }

    bool has_room(std::int64_t dim, Precision precision, bool gradients) const {
        return dim == dim_ && precision == precision_ && gradients == (rows_.depth() > 0);
    }

    // item(i): the vector of the panel's item i < n.
    template <class Item>
    void load(std::int64_t n, const Item& item) {
        for (std::int64_t v = 0; v < kMaxPanelVectors; ++v) {
            const std::int64_t first = v * kPackedLanes<T>;
            const std::int64_t lanes = std::clamp<std::int64_t>(n - first, 0, kPackedLanes<T>);
            const T* vectors[kPackedLanes<T>];
            for (std::int64_t lane = 0; lane < lanes; ++lane) {
                vectors[lane] = item(first + lane);
            }
            columns_.fill_vector_from_rows(v, lanes, vectors);
        }
        for (std::int64_t i = 0; rows_.depth() > 0 && i < kPanelItems<T>; ++i) {
            rows_.fill_term(i, i < n ? item(i) : nullptr, i < n ? dim_ : 0);
        }
        if constexpr (std::is_same_v<T, float>) {
            if (precision_ != Precision::full) {
                column_dots_ = PackedDots(columns_, DotType::bfloat16);
                if (rows_.depth() > 0) {
                    row_dots_ = PackedDots(rows_, DotType::bfloat16);
                }
            }
        }
    }

    // `op` on the scores of the tile's rows.
    template <class Op>
    void scores(const Op& op, const HiddenTiles<T>& hidden, std::int64_t tile) {
        if constexpr (std::is_same_v<T, float>) {
            if (hidden.reduced()) {
                return multiply_dot_panels<kMaxPanelVectors>(
                    op, column_dots_, DotSession::current(), hidden.words(tile),
                    hidden.rows_in(tile), 0, 1, 1, sums_.data());
            }
        }
        multiply_plain(op, hidden.rows(tile), hidden.rows_in(tile), columns_);
    }

    // dhidden (n_rows, stride) += dscores times the items; dscores has kPanelItems values a row.
    void add_hidden_gradient(const T* const* dscores, std::int64_t n_rows, T* dhidden,
                             std::int64_t stride) {
        const AddToRowsOp<T> op{{}, dhidden, stride};
        if constexpr (std::is_same_v<T, float>) {
            if (precision_ != Precision::full) {
                return multiply_dots<1>(op, dscores, n_rows, kPanelItems<T>, row_dots_,
                                        RowRange::unit);
            }
        }
        multiply_plain(op, dscores, n_rows, rows_);
    }

    // Starts the gradient of the items anew.
    void clear_item_gradient() {
        stride_ = padded_to_vectors<T>(dim_);
        gradient_.resize(static_cast<std::size_t>(std::max(stride_, dim_) * kPanelItems<T>));
        std::fill(gradient_.begin(), gradient_.end(), T(0));
    }

    // Adds dscores' times the tile's hidden rows; dscores has kRowsPerTile rows, of which those
    // beyond the tile's are zero.
    void add_item_gradient(const T* dscores, const HiddenTiles<T>& hidden, std::int64_t tile) {
        if constexpr (std::is_same_v<T, float>) {
            if (hidden.reduced()) {
                return add_turned_gradient(dscores, hidden, tile);
            }
        }
        const T* columns[kPanelItems<T>];
        for (std::int64_t i = 0; i < kPanelItems<T>; ++i) {
            columns[i] = dscores + i;
        }
        multiply_plain(AddColumnsOp<T>{{{}, gradient_.data(), stride_}}, columns, kPanelItems<T>,
                       hidden.terms(tile));
    }

    // The gradient of item i times `scale`.
    void copy_item_gradient(std::int64_t i, T scale, T* to) const {
        const bool turned = precision_ != Precision::full;
        const T* from = gradient_.data() + (turned ? i : i * stride_);
        const std::int64_t step = turned ? kPanelItems<T> : 1;
        for (std::int64_t k = 0; k < dim_; ++k) {
            to[k] = scale * from[k * step];
        }
    }

  private:
    // In bfloat16 the gradient is (dim, kPanelItems): the words of dscores are columns then.
    void add_turned_gradient(const float* dscores, const HiddenTiles<float>& hidden,
                             std::int64_t tile) {
        for (std::int64_t word = 0; word < kRowsPerTile / 2; ++word) {
            const float* first = dscores + 2 * word * kPanelItems<float>;
            pair_to_bfloat16(first, first + kPanelItems<float>, kPanelItems<float>,
                             words_.data() + word * kPanelItems<float>);
        }
        DotSession::current().multiply({hidden.turned_words(tile), dim_, words_.data(), 1,
                                        HiddenTiles<T>::kTurnedDepth, HiddenTiles<T>::kTurnedDepth,
                                        kMaxPanelVectors, nullptr, sums_.data()});
        for (std::int64_t i = 0; i < dim_ * kPanelItems<T>; ++i) {
            gradient_[static_cast<std::size_t>(i)] += sums_.data()[i];
        }
    }

    std::int64_t dim_, stride_ = 0;
    Precision precision_;
    std::vector<T> gradient_;
    PackedPanels<T> columns_, rows_;
    PackedDots column_dots_, row_dots_;
    AlignedBuffer<T> sums_;
    AlignedBuffer<std::uint32_t> words_;
};

}  // namespace HWY_NAMESPACE
}  // namespace seqrec_fast
HWY_AFTER_NAMESPACE();

#endif  // include guard
