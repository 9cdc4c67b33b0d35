// A stack of recurrent layers as Python sees it: it keeps alive what it reads.
#pragma once

#include <optional>

#include "bindings/array_caster.h"
#include "ops/rnn_stack.h"

namespace seqrec_fast {

template <class T>
class BoundRnnStack {
  public:
    // `embedding` is None or an array, `gate_tables` a list of one array per direction, or empty.
    BoundRnnStack(const pybind11::list& layers, std::int64_t directions,
                  const pybind11::object& embedding, const pybind11::list& gate_tables)
        : owners_(pybind11::make_tuple(layers, embedding, gate_tables)) {
        for (const pybind11::handle layer : layers) {
            stack_.layers.push_back(layer.cast<const PackedRnn<T>*>());
        }
        stack_.directions = directions;
        stack_.embedding = matrix_view<const T>("RnnStack", "embedding", embedding);
        for (const pybind11::handle table : gate_tables) {
            stack_.gate_tables.push_back(matrix_view<const T>(
                "RnnStack", "gate_tables", pybind11::reinterpret_borrow<pybind11::object>(table)));
        }
    }

    const RnnStack<T>& stack() const { return stack_; }

    // (y, h_n, c_n or None) of x, (T, B, I) or with offsets (events, I), or of ids of the same
    // leading shape; y is (B, D * S) with `last`. `attention`: None or (N). None, and nothing done,
    // if an array has not the exact type, shape and order: then the caller must convert it, or say
    // what is wrong. That of `attention` is an error.
    pybind11::object run(const char* function, const pybind11::object& x,
                         const pybind11::object& h_0, const pybind11::object& c_0,
                         const pybind11::object& offsets, bool last,
                         const pybind11::object& attention) const;

  private:
    pybind11::object owners_;
    RnnStack<T> stack_;
};

}  // namespace seqrec_fast
