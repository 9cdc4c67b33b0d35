#include "bindings/array_caster.h"
#include "bindings/item_catalogue_binding.h"
#include "bindings/register.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

std::int64_t capacity_of(const Object& ids) {
    return matrix_view<const std::int32_t>("PackedItems", "ids", ids).columns;
}

// The arrays, whose sizes have to fit each other: the kernels trust them.
PackedItems packed(const char* function, std::int64_t n_items, std::int64_t dim,
                   const Object& vectors, const Object& bias, const Object& ids,
                   const Object& positions, const Object& high, const Object& low,
                   const Object& bounds, std::int64_t id_offset, std::int64_t n_ids) {
    PackedItems items;
    const std::int64_t capacity = capacity_of(ids), blocks = capacity / kItemBlock;
    SEQREC_CHECK(dim >= 1, function, ": dim is ", dim, "; expected at least 1");
    SEQREC_CHECK(capacity % kItemBlock == 0 && n_items >= 0 && n_items <= capacity, function,
                 ": room for ", capacity, " items; expected a multiple of 64, at least ", n_items);
    SEQREC_CHECK(capacity <= std::int64_t{1} << 31, function, ": room for ", capacity,
                 " items; expected at most 2147483648");
    SEQREC_CHECK(id_offset >= 0 && n_ids >= id_offset + n_items, function, ": n_ids is ", n_ids,
                 "; expected at least ", id_offset + n_items);
    SEQREC_CHECK(high.is_none() == low.is_none(), function, ": one half of the codes is missing");
    SEQREC_CHECK(high.is_none() || dim <= kMaxCodedDim, function, ": dim is ", dim,
                 "; expected at most ", kMaxCodedDim, " to be scanned in int8");
    items.n_items = n_items;
    items.dim = dim;
    items.id_offset = id_offset;
    items.n_ids = n_ids;
    const bool once = bounds.is_none(), by_rows = once || !high.is_none();
    const auto rows = once ? n_items : by_rows ? capacity : blocks * dim;
    const auto columns = by_rows ? dim : kItemBlock;
    SEQREC_CHECK(!once || high.is_none(), function, ": codes have no bounds");
    if (!once && py::isinstance<py::array_t<std::uint16_t>>(vectors)) {
        const auto view = matrix_view<const std::uint16_t>(function, "vectors", vectors);
        check_shape(function, "vectors", view, rows, columns);
        items.bfloat16_vectors = view.data;
    } else {
        const auto view = matrix_view<const float>(function, "vectors", vectors);
        check_shape(function, "vectors", view, rows, columns);
        items.float_vectors = view.data;
    }
    const auto vector = [&](auto value, const char* name, const Object& object) {
        const auto view = matrix_view<const decltype(value)>(function, name, object);
        check_shape(function, name, view, 1, capacity);
        return view.data;
    };
    items.bias = vector(float(), "bias", bias);
    items.ids = vector(std::int32_t(), "ids", ids);
    items.positions = vector(std::int32_t(), "positions", positions);
    const auto codes = [&](const char* name, const Object& object) {
        const auto view = matrix_view<const std::uint8_t>(function, name, object);
        check_shape(function, name, view, blocks * word_pairs(dim), kPairBytes);
        return view.data;
    };
    items.high = codes("high", high);
    items.low = codes("low", low);
    const auto view = matrix_view<const double>(function, "bounds", bounds);
    check_shape(function, "bounds", view, blocks, kBlockBounds);
    SEQREC_CHECK(items.positions != nullptr, function, ": positions are missing");
    items.bounds = reinterpret_cast<const BlockBounds*>(view.data);
    return items;
}

template <class T>
T* writable(const Object& object) {
    return object.is_none() || !py::isinstance<py::array_t<T>>(object)
               ? nullptr
               : py::reinterpret_borrow<py::array_t<T>>(object).mutable_data();
}

void peaks(const std::string& function, const Object& items, const Object& out) {
    const auto rows = matrix_view<const float>(function.c_str(), "items", items);
    const auto view = matrix_view<float>(function.c_str(), "peaks", out);
    check_shape(function.c_str(), "peaks", view, 1, rows.rows);
    SEQREC_CHECK(rows.contiguous(), function, ": items is not contiguous");
    const py::gil_scoped_release release;
    item_peaks(rows.data, rows.rows, rows.columns, view.data);
}

void run_topk(const BoundCatalogue& bound, const Object& queries, std::int64_t k,
              const Object& excluded, const Object& exclude_offsets, const Object& allowed_bits,
              const Object& allowed, const Object& allowed_offsets, const Object& scores,
              const Object& ids) {
    const char* const kName = "topk";
    Topk call;
    call.catalogue = &bound.catalogue();
    call.queries = matrix_view<const float>(kName, "queries", queries);
    call.k = k;
    call.excluded = matrix_view<const std::int64_t>(kName, "exclude values", excluded);
    call.exclude_offsets =
        matrix_view<const std::int64_t>(kName, "exclude offsets", exclude_offsets);
    call.allowed_bits = matrix_view<const std::uint64_t>(kName, "allow bits", allowed_bits);
    call.allowed = matrix_view<const std::int64_t>(kName, "allow values", allowed);
    call.allowed_offsets = matrix_view<const std::int64_t>(kName, "allow offsets", allowed_offsets);
    call.scores = matrix_view<float>(kName, "scores", scores);
    call.ids = matrix_view<std::int64_t>(kName, "ids", ids);
    const py::gil_scoped_release release;
    topk(kName, call);
}

void run_ranks(const BoundCatalogue& bound, const Object& queries, const Object& targets,
               const Object& excluded, const Object& exclude_offsets, const Object& greater,
               const Object& equal, const Object& before) {
    const char* const kName = "rank_of";
    Ranks call;
    call.catalogue = &bound.catalogue();
    call.queries = matrix_view<const float>(kName, "queries", queries);
    call.targets = matrix_view<const std::int64_t>(kName, "ids", targets);
    call.excluded = matrix_view<const std::int64_t>(kName, "exclude values", excluded);
    call.exclude_offsets =
        matrix_view<const std::int64_t>(kName, "exclude offsets", exclude_offsets);
    call.greater = matrix_view<std::int64_t>(kName, "greater", greater);
    call.equal = matrix_view<std::int64_t>(kName, "equal", equal);
    call.before = matrix_view<std::int64_t>(kName, "before", before);
    const py::gil_scoped_release release;
    ranks(kName, call);
}

// A property; a change of the catalogue may be under way.
auto read(std::int64_t PackedItems::* number) {
    return [number](const BoundCatalogue& bound) {
        const auto reading = bound.catalogue().reading();
        return bound.catalogue().items().*number;
    };
}

py::tuple statistics(const BoundCatalogue& bound) {
    const TopkStatistics& counters = bound.catalogue().statistics();
    return py::make_tuple(counters.queries.load(), counters.candidates.load(),
                          counters.blocks_scanned.load(), counters.blocks_skipped.load());
}

}  // namespace

BoundCatalogue::BoundCatalogue(const std::string& function, std::int64_t n_items, std::int64_t dim,
                               const Object& vectors, const Object& bias, const Object& ids,
                               const Object& positions, const Object& high, const Object& low,
                               const Object& bounds, std::int64_t id_offset, std::int64_t n_ids)
    : vectors_(vectors),
      bias_(bias),
      ids_(ids),
      positions_(positions),
      high_(high),
      low_(low),
      bounds_(bounds),
      catalogue_(packed(function.c_str(), n_items, dim, vectors, bias, ids, positions, high, low,
                        bounds, id_offset, n_ids),
                 capacity_of(ids)) {}

ItemStorage BoundCatalogue::storage() const {
    return {
        writable<float>(vectors_),    writable<std::uint16_t>(vectors_),
        writable<float>(bias_),       writable<std::uint8_t>(high_),
        writable<std::uint8_t>(low_), reinterpret_cast<BlockBounds*>(writable<double>(bounds_))};
}

void BoundCatalogue::write(const std::string& function, const Object& positions,
                           const Object& sources, const Object& rows, const Object& bias,
                           std::int64_t n_items) {
    const char* const kName = function.c_str();
    SEQREC_CHECK(!bounds_.is_none(), function, ": a catalogue that is used once cannot change");
    const ItemStorage to = storage();
    const auto positions_view = matrix_view<const std::int64_t>(kName, "positions", positions);
    const auto sources_view = matrix_view<const std::int64_t>(kName, "sources", sources);
    const auto rows_view = matrix_view<const float>(kName, "rows", rows);
    const auto bias_view = matrix_view<const float>(kName, "bias", bias);
    const py::gil_scoped_release release;
    catalogue_.write(kName, to, positions_view, sources_view, rows_view, bias_view, n_items);
}

void register_topk(py::module_& m) {
    m.def("item_peaks", &peaks, py::arg("function"), py::arg("items"), py::arg("peaks"));
    py::class_<BoundCatalogue> items(m, "PackedItems");
    items
        .def(py::init<const std::string&, std::int64_t, std::int64_t, const Object&, const Object&,
                      const Object&, const Object&, const Object&, const Object&, const Object&,
                      std::int64_t, std::int64_t>(),
             py::arg("function"), py::arg("n_items"), py::arg("dim"), py::arg("vectors"),
             py::arg("bias"), py::arg("ids"), py::arg("positions"), py::arg("high"), py::arg("low"),
             py::arg("bounds"), py::arg("id_offset"), py::arg("n_ids"))
        .def_property_readonly("n_items", read(&PackedItems::n_items))
        .def_property_readonly("dim", read(&PackedItems::dim))
        .def_property_readonly("id_offset", read(&PackedItems::id_offset))
        .def_property_readonly("n_ids", read(&PackedItems::n_ids))
        .def("write", &BoundCatalogue::write, py::arg("function"), py::arg("positions"),
             py::arg("sources"), py::arg("rows"), py::arg("bias"), py::arg("n_items"))
        .def("topk", &run_topk, py::arg("queries"), py::arg("k"), py::arg("excluded"),
             py::arg("exclude_offsets"), py::arg("allowed_bits"), py::arg("allowed_ids"),
             py::arg("allowed_offsets"), py::arg("scores"), py::arg("ids"))
        .def("ranks", &run_ranks, py::arg("queries"), py::arg("targets"), py::arg("excluded"),
             py::arg("exclude_offsets"), py::arg("greater"), py::arg("equal"), py::arg("before"))
        .def("statistics", &statistics);
    items.attr("BLOCK") = kItemBlock;
}

}  // namespace seqrec_fast
