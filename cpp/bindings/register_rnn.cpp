#include "bindings/array_caster.h"
#include "bindings/register.h"
#include "ops/rnn.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

MatrixView<const std::int64_t> int64_vector(const char* argument, const Object& object) {
    const auto view = matrix_view<const std::int64_t>("SequenceLayout", argument, object);
    SEQREC_CHECK(view.present() && view.rows == 1, "SequenceLayout: ", argument,
                 " is not a vector");
    return view;
}

template <class T>
RnnParameters<T> parameters(const std::string& cell, const Object& weight_ih,
                            const Object& weight_hh, const Object& bias_ih, const Object& bias_hh,
                            const Object& weight_hr) {
    const char* const kName = cell.c_str();
    return {parse_cell_kind(cell),
            matrix_view<const T>(kName, "weight_ih", weight_ih),
            matrix_view<const T>(kName, "weight_hh", weight_hh),
            matrix_view<const T>(kName, "bias_ih", bias_ih),
            matrix_view<const T>(kName, "bias_hh", bias_hh),
            matrix_view<const T>(kName, "weight_hr", weight_hr)};
}

template <class T>
void forward(const PackedRnn<T>& weights, const SequenceLayout& layout, const Object& x,
             const Object& h_0, const Object& c_0, const Object& reset, bool reverse,
             const Object& y, const Object& h_n, const Object& c_n, const Object& saved,
             const Object& ids, const Object& gate_table, const RnnNoise* noise,
             const Object& attention) {
    const char* const kName = "rnn_forward";
    RnnForward<T> call;
    call.weights = &weights;
    call.layout = &layout;
    call.x = matrix_view<const T>(kName, "x", x);
    call.h_0 = matrix_view<const T>(kName, "h_0", h_0);
    call.c_0 = matrix_view<const T>(kName, "c_0", c_0);
    call.reset = matrix_view<const std::uint8_t>(kName, "reset", reset);
    call.reverse = reverse;
    call.y = matrix_view<T>(kName, "y", y);
    call.h_n = matrix_view<T>(kName, "h_n", h_n);
    call.c_n = matrix_view<T>(kName, "c_n", c_n);
    call.saved = matrix_view<T>(kName, "saved", saved);
    call.ids = matrix_view<const std::int64_t>(kName, "ids", ids);
    call.gate_table = matrix_view<const T>(kName, "gate_table", gate_table);
    call.noise = noise;
    call.attention = matrix_view<const T>(kName, "attention", attention);
    const py::gil_scoped_release release;
    rnn_forward(kName, call);
}

template <class T>
void gate_table(const PackedRnn<T>& weights, const Object& x, const Object& out) {
    const char* const kName = "rnn_gate_table";
    const auto rows = matrix_view<const T>(kName, "x", x);
    const auto table = matrix_view<T>(kName, "out", out);
    const py::gil_scoped_release release;
    rnn_gate_table(kName, weights, rows, table);
}

template <class T>
void backward(const std::string& cell, const Object& weight_ih, const Object& weight_hh,
              const Object& weight_hr, const SequenceLayout& layout, const Object& x,
              const Object& h_0, const Object& c_0, const Object& reset, bool reverse,
              const Object& y, const Object& saved, const Object& dy, const Object& dh_n,
              const Object& dc_n, const Object& dx, const Object& dh_0, const Object& dc_0,
              const Object& dweight_ih, const Object& dweight_hh, const Object& dbias_ih,
              const Object& dbias_hh, const Object& dweight_hr, const std::string& precision,
              const RnnNoise* noise, const Object& attention, const Object& dattention) {
    const char* const kName = "rnn_backward";
    const RnnWeights<T> weights = checked_weights(
        kName, parameters<T>(cell, weight_ih, weight_hh, py::none(), py::none(), weight_hr));
    RnnBackward<T> call;
    call.layout = &layout;
    call.x = matrix_view<const T>(kName, "x", x);
    call.h_0 = matrix_view<const T>(kName, "h_0", h_0);
    call.c_0 = matrix_view<const T>(kName, "c_0", c_0);
    call.reset = matrix_view<const std::uint8_t>(kName, "reset", reset);
    call.reverse = reverse;
    call.y = matrix_view<const T>(kName, "y", y);
    call.saved = matrix_view<const T>(kName, "saved", saved);
    call.dy = matrix_view<const T>(kName, "dy", dy);
    call.dh_n = matrix_view<const T>(kName, "dh_n", dh_n);
    call.dc_n = matrix_view<const T>(kName, "dc_n", dc_n);
    call.dx = matrix_view<T>(kName, "dx", dx);
    call.dh_0 = matrix_view<T>(kName, "dh_0", dh_0);
    call.dc_0 = matrix_view<T>(kName, "dc_0", dc_0);
    call.dweight_ih = matrix_view<T>(kName, "dweight_ih", dweight_ih);
    call.dweight_hh = matrix_view<T>(kName, "dweight_hh", dweight_hh);
    call.dbias_ih = matrix_view<T>(kName, "dbias_ih", dbias_ih);
    call.dbias_hh = matrix_view<T>(kName, "dbias_hh", dbias_hh);
    call.dweight_hr = matrix_view<T>(kName, "dweight_hr", dweight_hr);
    call.noise = noise;
    call.attention = matrix_view<const T>(kName, "attention", attention);
    call.dattention = matrix_view<T>(kName, "dattention", dattention);
    const Precision products = backward_precision(parse_precision(precision));
    const py::gil_scoped_release release;
    const PackedRnnGrad<T> packed(weights, call.dx.present(), products,
                                  call.dh_0.present() || layout.longest() > 1);
    call.weights = &packed;
    rnn_backward(kName, call);
}

template <class T>
void register_dtype(py::module_& m, const char* class_name, const char* backward_name) {
    py::class_<PackedRnn<T>>(m, class_name)
        .def(py::init([](const std::string& cell, const Object& weight_ih, const Object& weight_hh,
                         const Object& bias_ih, const Object& bias_hh, const Object& weight_hr,
                         bool float32_states, const std::string& precision) {
                 PackedRnn<T> packed(
                     checked_weights(cell.c_str(), parameters<T>(cell, weight_ih, weight_hh,
                                                                 bias_ih, bias_hh, weight_hr)),
                     parse_precision(precision));
                 packed.float32_states = float32_states;
                 return packed;
             }),
             py::arg("cell"), py::arg("weight_ih"), py::arg("weight_hh"), py::arg("bias_ih"),
             py::arg("bias_hh"), py::arg("weight_hr"), py::arg("float32_states") = false,
             py::arg("precision") = "full")
        .def_readonly("hidden_size", &PackedRnn<T>::hidden_size)
        .def_readonly("state_size", &PackedRnn<T>::state_size)
        .def_property_readonly("input_size",
                               [](const PackedRnn<T>& w) {
                                   return w.has_input_weights() ? w.input_size
                                                                : w.gates * w.hidden_size;
                               })
        .def_property_readonly("nbytes", &PackedRnn<T>::nbytes)
        .def_property_readonly(
            "saved_width",
            [](const PackedRnn<T>& w) { return saved_width<T>(w.kind, w.hidden_size); })
        .def("forward", &forward<T>, py::arg("layout"), py::arg("x"), py::arg("h_0"),
             py::arg("c_0"), py::arg("reset"), py::arg("reverse"), py::arg("y"), py::arg("h_n"),
             py::arg("c_n"), py::arg("saved"), py::arg("ids") = py::none(),
             py::arg("gate_table") = py::none(), py::arg("noise") = nullptr,
             py::arg("attention") = py::none())
        .def_property_readonly("has_input_weights", &PackedRnn<T>::has_input_weights)
        .def_property_readonly("gate_table_width", &gate_table_width<T>)
        .def("gate_table", &gate_table<T>, py::arg("x"), py::arg("out"));
    m.def(backward_name, &backward<T>, py::arg("cell"), py::arg("weight_ih"), py::arg("weight_hh"),
          py::arg("weight_hr"), py::arg("layout"), py::arg("x"), py::arg("h_0"), py::arg("c_0"),
          py::arg("reset"), py::arg("reverse"), py::arg("y"), py::arg("saved"), py::arg("dy"),
          py::arg("dh_n"), py::arg("dc_n"), py::arg("dx"), py::arg("dh_0"), py::arg("dc_0"),
          py::arg("dweight_ih"), py::arg("dweight_hh"), py::arg("dbias_ih"), py::arg("dbias_hh"),
          py::arg("dweight_hr"), py::arg("precision") = "full", py::arg("noise") = nullptr,
          py::arg("attention") = py::none(), py::arg("dattention") = py::none());
}

RnnNoise make_noise(double recurrent_dropout, double zoneout, const Object& seed,
                    std::uint32_t stream, const Object& sessions) {
    RnnNoise noise;
    noise.recurrent_dropout = recurrent_dropout;
    noise.zoneout = zoneout;
    noise.random = !seed.is_none();
    noise.seed = noise.random ? seed.cast<std::uint64_t>() : 0;
    noise.stream = stream;
    const auto view = matrix_view<const std::int64_t>("RnnNoise", "sessions", sessions);
    SEQREC_CHECK(!view.present() || view.rows == 1, "RnnNoise: sessions is not a vector");
    noise.sessions.assign(view.data, view.data + view.columns);
    return noise;
}

}  // namespace

void register_rnn(py::module_& m) {
    m.attr("CELLS") = py::make_tuple("gru", "gru_reset_before", "augru_paper", "augru_tf", "agru",
                                     "lstm", "rnn_tanh", "rnn_relu");
    m.def("gate_count", [](const std::string& cell) { return gate_count(parse_cell_kind(cell)); });
    m.def("saved_count",
          [](const std::string& cell) { return saved_count(parse_cell_kind(cell)); });
    m.attr("FLOAT64_UNITS") = kFloat64Units;
    py::class_<SequenceLayout>(m, "SequenceLayout")
        .def_static("padded", &SequenceLayout::padded, py::arg("seq_len"), py::arg("batch"),
                    py::arg("batch_first"))
        .def_static(
            "ragged",
            [](const std::string& function, const Object& offsets, std::int64_t n_events) {
                const auto view = int64_vector("offsets", offsets);
                SEQREC_CHECK(view.columns > 0, function,
                             ": offsets is empty; expected one more entry than sessions");
                return SequenceLayout::ragged(view.data, view.columns - 1, n_events,
                                              function.c_str());
            },
            py::arg("function"), py::arg("offsets"), py::arg("n_events"))
        .def_static(
            "packed",
            [](const std::string& function, const Object& batch_sizes, std::int64_t n_events) {
                const auto view = int64_vector("batch_sizes", batch_sizes);
                return SequenceLayout::packed(view.data, view.columns, n_events, function.c_str());
            },
            py::arg("function"), py::arg("batch_sizes"), py::arg("n_events"))
        .def_property_readonly("batch", &SequenceLayout::batch)
        .def_property_readonly("n_events", &SequenceLayout::n_events);
    py::class_<RnnNoise>(m, "RnnNoise")
        .def(py::init(&make_noise), py::arg("recurrent_dropout"), py::arg("zoneout"),
             py::arg("seed"), py::arg("stream") = 0, py::arg("sessions") = py::none());
    register_dtype<float>(m, "PackedRnnF32", "rnn_backward_f32");
    register_dtype<double>(m, "PackedRnnF64", "rnn_backward_f64");
}

}  // namespace seqrec_fast
