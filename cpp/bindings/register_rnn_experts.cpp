#include <set>
#include <string>

#include "bindings/array_caster.h"
#include "bindings/register.h"
#include "ops/rnn_experts.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

// The arrays of a call by their names in ops/rnn.h; one that is not there, or None, is absent.
class NamedArrays {
  public:
    NamedArrays(const char* function, const py::kwargs& arrays)
        : function_(function), arrays_(arrays) {}

    template <class V>
    MatrixView<V> get(const char* name) {
        known_.insert(name);
        return arrays_.contains(name) ? matrix_view<V>(function_, name, arrays_[name])
                                      : MatrixView<V>();
    }
    // After all were read.
    void check_names() const {
        for (const auto& [name, array] : arrays_) {
            if (known_.count(py::cast<std::string>(name)) == 0) {
                throw py::type_error(
                    concat(function_, ": there is no argument ", py::cast<std::string>(name)));
            }
        }
    }

  private:
    const char* function_;
    const py::kwargs& arrays_;
    std::set<std::string> known_;
};

template <class T>
RnnExperts<T> experts_of(const std::string& cell, std::int64_t count, NamedArrays& arrays,
                         Precision precision, bool float32_states) {
    return {count,
            {parse_cell_kind(cell), arrays.get<const T>("weight_ih"),
             arrays.get<const T>("weight_hh"), arrays.get<const T>("bias_ih"),
             arrays.get<const T>("bias_hh"), arrays.get<const T>("weight_hr")},
            arrays.get<const std::int64_t>("offsets"),
            precision,
            float32_states};
}

template <class T>
void forward(const std::string& cell, std::int64_t count, bool reverse,
             const std::string& precision, const RnnNoise* noise, bool float32_states,
             const py::kwargs& kwargs) {
    const char* const kName = "rnn_experts_forward";
    NamedArrays arrays(kName, kwargs);
    const RnnExperts<T> experts =
        experts_of<T>(cell, count, arrays, parse_precision(precision), float32_states);
    RnnForward<T> call;
    call.x = arrays.get<const T>("x");
    call.h_0 = arrays.get<const T>("h_0");
    call.c_0 = arrays.get<const T>("c_0");
    call.reset = arrays.get<const std::uint8_t>("reset");
    call.attention = arrays.get<const T>("attention");
    call.reverse = reverse;
    call.y = arrays.get<T>("y");
    call.h_n = arrays.get<T>("h_n");
    call.c_n = arrays.get<T>("c_n");
    call.saved = arrays.get<T>("saved");
    call.noise = noise;
    arrays.check_names();
    const py::gil_scoped_release release;
    rnn_experts_forward(kName, experts, call);
}

template <class T>
void backward(const std::string& cell, std::int64_t count, bool reverse,
              const std::string& precision, const RnnNoise* noise, const py::kwargs& kwargs) {
    const char* const kName = "rnn_experts_backward";
    NamedArrays arrays(kName, kwargs);
    const RnnExperts<T> experts =
        experts_of<T>(cell, count, arrays, backward_precision(parse_precision(precision)), false);
    RnnBackward<T> call;
    call.x = arrays.get<const T>("x");
    call.h_0 = arrays.get<const T>("h_0");
    call.c_0 = arrays.get<const T>("c_0");
    call.reset = arrays.get<const std::uint8_t>("reset");
    call.attention = arrays.get<const T>("attention");
    call.reverse = reverse;
    call.y = arrays.get<const T>("y");
    call.saved = arrays.get<const T>("saved");
    call.dy = arrays.get<const T>("dy");
    call.dh_n = arrays.get<const T>("dh_n");
    call.dc_n = arrays.get<const T>("dc_n");
    call.dx = arrays.get<T>("dx");
    call.dattention = arrays.get<T>("dattention");
    call.dh_0 = arrays.get<T>("dh_0");
    call.dc_0 = arrays.get<T>("dc_0");
    call.dweight_ih = arrays.get<T>("dweight_ih");
    call.dweight_hh = arrays.get<T>("dweight_hh");
    call.dbias_ih = arrays.get<T>("dbias_ih");
    call.dbias_hh = arrays.get<T>("dbias_hh");
    call.dweight_hr = arrays.get<T>("dweight_hr");
    call.noise = noise;
    arrays.check_names();
    const py::gil_scoped_release release;
    rnn_experts_backward(kName, experts, call);
}

template <class T>
void register_dtype(py::module_& m, const char* forward_name, const char* backward_name) {
    m.def(forward_name, &forward<T>, py::arg("cell"), py::arg("count"), py::arg("reverse"),
          py::arg("precision"), py::arg("noise"), py::arg("float32_states"));
    m.def(backward_name, &backward<T>, py::arg("cell"), py::arg("count"), py::arg("reverse"),
          py::arg("precision"), py::arg("noise"));
}

}  // namespace

void register_rnn_experts(py::module_& m) {
    register_dtype<float>(m, "rnn_experts_forward_f32", "rnn_experts_backward_f32");
    register_dtype<double>(m, "rnn_experts_forward_f64", "rnn_experts_backward_f64");
}

}  // namespace seqrec_fast
