// A catalogue in NumPy arrays that Python owns.
#pragma once

#include <pybind11/numpy.h>

#include <string>
#include <vector>

#include "ops/topk.h"

namespace seqrec_fast {

class BoundCatalogue {
  public:
    using Object = pybind11::object;

    // Arrays as PackedItems has them; `function` names the caller in messages.
    BoundCatalogue(const std::string& function, std::int64_t n_items, std::int64_t dim,
                   const Object& vectors, const Object& bias, const Object& ids,
                   const Object& positions, const Object& high, const Object& low,
                   const Object& bounds, std::int64_t id_offset, std::int64_t n_ids);

    const ItemCatalogue& catalogue() const { return catalogue_; }
    void write(const std::string& function, const Object& positions, const Object& sources,
               const Object& rows, const Object& bias, std::int64_t n_items);

  private:
    ItemStorage storage() const;

    Object vectors_, bias_, ids_, positions_, high_, low_, bounds_;
    ItemCatalogue catalogue_;
};

}  // namespace seqrec_fast
