#include <pybind11/stl.h>

#include <string>

#include "bindings/array_caster.h"
#include "bindings/register.h"
#include "bindings/row_rule_binding.h"
#include "ops/session_step.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

// (value, mean, square), or None.
template <class T>
Trained<T> read_trained(const char* function, const char* argument, const Object& object) {
    if (object.is_none()) {
        return {};
    }
    const auto parts = py::cast<py::tuple>(object);
    return {matrix_view<T>(function, argument, parts[0]),
            matrix_view<T>(function, argument, parts[1]),
            matrix_view<T>(function, argument, parts[2])};
}

template <class T>
double run_session_step(const std::string& cell, const py::tuple& rule, const Object& input_table,
                        const Object& item_table, const Object& item_bias, const py::list& layers,
                        const std::string& loss, const std::string& collisions, double elu,
                        double regularization, double dropout_input, double dropout_hidden,
                        bool carry_dropout, std::uint64_t seed, const Object& items,
                        const Object& target, const Object& offsets, const Object& reset,
                        const Object& negatives, const Object& log_q, const Object& target_log_q,
                        const Object& h_0, const Object& c_0, const Object& h_n,
                        const Object& c_n) {
    const char* const kName = "session_step";
    SessionStep<T> step{};
    step.cell = parse_cell_kind(cell);
    step.rule = read_rule<T>(kName, rule).update;
    step.input_table = read_trained<T>(kName, "input_table", input_table);
    step.item_table = read_trained<T>(kName, "item_table", item_table);
    step.item_bias = read_trained<T>(kName, "item_bias", item_bias);
    for (const py::handle handle : layers) {
        const auto layer = py::cast<py::tuple>(handle);
        step.layers.push_back({read_trained<T>(kName, "weight_ih", layer[0]),
                               read_trained<T>(kName, "weight_hh", layer[1]),
                               read_trained<T>(kName, "bias_ih", layer[2]),
                               read_trained<T>(kName, "bias_hh", layer[3])});
    }
    step.loss = parse_sampled_loss(loss);
    step.collisions = parse_collisions(collisions);
    step.elu = elu;
    step.regularization = regularization;
    step.dropout_input = dropout_input;
    step.dropout_hidden = dropout_hidden;
    step.carry_dropout = carry_dropout;
    step.seed = seed;
    step.items = matrix_view<const std::int64_t>(kName, "items", items);
    step.target = matrix_view<const std::int64_t>(kName, "target", target);
    step.offsets = matrix_view<const std::int64_t>(kName, "offsets", offsets);
    step.reset = matrix_view<const std::uint8_t>(kName, "reset", reset);
    step.negatives = matrix_view<const std::int64_t>(kName, "negatives", negatives);
    step.log_q = matrix_view<const T>(kName, "log_q", log_q);
    step.target_log_q = matrix_view<const T>(kName, "target_log_q", target_log_q);
    step.h_0 = matrix_view<const T>(kName, "h_0", h_0);
    step.c_0 = matrix_view<const T>(kName, "c_0", c_0);
    step.h_n = matrix_view<T>(kName, "h_n", h_n);
    step.c_n = matrix_view<T>(kName, "c_n", c_n);
    const py::gil_scoped_release release;
    return session_step(kName, step);
}

template <class T>
void register_for(py::module_& m, const char* name) {
    m.def(name, &run_session_step<T>, py::arg("cell"), py::arg("rule"), py::arg("input_table"),
          py::arg("item_table"), py::arg("item_bias"), py::arg("layers"), py::arg("loss"),
          py::arg("collisions"), py::arg("elu"), py::arg("regularization"),
          py::arg("dropout_input"), py::arg("dropout_hidden"), py::arg("carry_dropout"),
          py::arg("seed"), py::arg("items"), py::arg("target"), py::arg("offsets"),
          py::arg("reset"), py::arg("negatives"), py::arg("log_q"), py::arg("target_log_q"),
          py::arg("h_0"), py::arg("c_0"), py::arg("h_n"), py::arg("c_n"));
}

}  // namespace

void register_session_step(py::module_& m) {
    register_for<float>(m, "session_step_f32");
    register_for<double>(m, "session_step_f64");
}

}  // namespace seqrec_fast
