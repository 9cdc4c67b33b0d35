#include "bindings/register.h"
#include "bindings/rnn_stack_binding.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

// Below it, handing the GIL over takes longer than the other threads would wait.
constexpr std::int64_t kEventsWithoutGil = 16;

template <class U>
bool fits(const py::object& object, std::initializer_list<py::ssize_t> shape) {
    if (!py::isinstance<py::array_t<U, py::array::c_style>>(object)) {
        return false;
    }
    const auto array = py::reinterpret_borrow<py::array>(object);
    return array.ndim() == static_cast<py::ssize_t>(shape.size()) &&
           std::equal(shape.begin(), shape.end(), array.shape());
}

template <class U>
MatrixView<const U> rows_of(const py::object& object, std::int64_t columns) {
    if (object.is_none()) {
        return {};
    }
    const auto array = py::reinterpret_borrow<py::array>(object);
    return {static_cast<const U*>(array.data()), columns == 0 ? 0 : array.size() / columns, columns,
            columns};
}

template <class U>
MatrixView<U> rows_of(py::array_t<U>& array, std::int64_t columns) {
    return {array.mutable_data(), columns == 0 ? 0 : array.size() / columns, columns, columns};
}

}  // namespace

template <class T>
py::object BoundRnnStack<T>::run(const char* function, const py::object& x, const py::object& h_0,
                                 const py::object& c_0, const py::object& offsets, bool last,
                                 const py::object& attention) const {
    const PackedRnn<T>& bottom = *stack_.layers.front();
    const bool ids = stack_.takes_ids(), ragged = !offsets.is_none();
    if (!py::isinstance<py::array>(x)) {
        return py::none();
    }
    const auto array = py::reinterpret_borrow<py::array>(x);
    const py::ssize_t leading = ragged ? 1 : 2;
    if (array.ndim() != leading + (ids ? 0 : 1)) {
        return py::none();
    }
    const std::int64_t width =
        bottom.has_input_weights() ? bottom.input_size : bottom.gates * bottom.hidden_size;
    const py::ssize_t n0 = array.shape(0), n1 = ragged ? 0 : array.shape(1);
    const std::int64_t events = ragged ? n0 : n0 * n1;
    if (ids ? !(ragged ? fits<std::int64_t>(x, {n0}) : fits<std::int64_t>(x, {n0, n1}))
            : !(ragged ? fits<T>(x, {n0, width}) : fits<T>(x, {n0, n1, width}))) {
        return py::none();
    }
    if (ragged && (!py::isinstance<py::array_t<std::int64_t, py::array::c_style>>(offsets) ||
                   py::reinterpret_borrow<py::array>(offsets).ndim() != 1)) {
        return py::none();
    }
    const auto bounds = matrix_view<const std::int64_t>(function, "offsets", offsets);
    SEQREC_CHECK(!ragged || bounds.columns > 0, function,
                 ": offsets is empty; expected one more entry than sessions");
    const SequenceLayout layout =
        ragged ? SequenceLayout::ragged(bounds.data, bounds.columns - 1, events, function)
               : SequenceLayout::padded(n0, n1, false);
    const auto n_states = static_cast<py::ssize_t>(stack_.layers.size());
    const auto batch = static_cast<py::ssize_t>(layout.batch());
    const py::ssize_t state = stack_.state_size(), hidden = stack_.hidden_size();
    const py::ssize_t output = stack_.output_size();
    if ((!h_0.is_none() && !fits<T>(h_0, {n_states, batch, state})) ||
        (!c_0.is_none() && !fits<T>(c_0, {n_states, batch, hidden}))) {
        return py::none();
    }
    py::array_t<T> h_n({n_states, batch, state});
    py::array_t<T> y = last     ? py::array_t<T>({batch, output})
                       : ragged ? py::array_t<T>({n0, output})
                                : py::array_t<T>({n0, n1, output});
    RnnStackRun<T> call;
    call.layout = &layout;
    if (ids) {
        call.ids = {static_cast<const std::int64_t*>(array.data()), 1, events, events};
    } else {
        call.x = {static_cast<const T*>(array.data()), events, width, width};
    }
    call.attention = matrix_view<const T>(function, "attention", attention);
    call.h_0 = rows_of<T>(h_0, state);
    call.c_0 = rows_of<T>(c_0, hidden);
    call.h_n = rows_of<T>(h_n, state);
    py::object cells = py::none();
    if (stack_.is_lstm()) {
        py::array_t<T> c_n({n_states, batch, hidden});
        call.c_n = rows_of<T>(c_n, hidden);
        cells = std::move(c_n);
    }
    if (!last) {
        call.y = {y.mutable_data(), events, output, output};
    }
    {
        std::optional<py::gil_scoped_release> release;
        if (events > kEventsWithoutGil) {
            release.emplace();
        }
        rnn_stack(function, stack_, call);
    }
    if (last) {
        // The final states of the top layer, direction beside direction.
        const T* top = h_n.data() + (n_states - stack_.directions) * batch * state;
        for (std::int64_t i = 0; i < stack_.directions * batch; ++i) {
            std::copy_n(top + i * state, state,
                        y.mutable_data() + (i % batch) * output + (i / batch) * state);
        }
    }
    return py::make_tuple(std::move(y), std::move(h_n), std::move(cells));
}

template class BoundRnnStack<float>;
template class BoundRnnStack<double>;

namespace {

template <class T>
void register_dtype(py::module_& m, const char* class_name) {
    py::class_<BoundRnnStack<T>>(m, class_name)
        .def(py::init<const py::list&, std::int64_t, const py::object&, const py::list&>(),
             py::arg("layers"), py::arg("directions"), py::arg("embedding"), py::arg("gate_tables"))
        .def("run", &BoundRnnStack<T>::run, py::arg("function"), py::arg("x"), py::arg("h_0"),
             py::arg("c_0"), py::arg("offsets"), py::arg("last"),
             py::arg("attention") = py::none());
}

}  // namespace

void register_rnn_stack(py::module_& m) {
    register_dtype<float>(m, "RnnStackF32");
    register_dtype<double>(m, "RnnStackF64");
}

}  // namespace seqrec_fast
