#include <string>

#include "bindings/array_caster.h"
#include "bindings/register.h"
#include "cpu/packed_matrix.h"
#include "ops/sampled_loss.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

template <class T>
void run_sampled_loss(const std::string& function, const std::string& kind,
                      const std::string& collisions, const Object& hidden, const Object& weight,
                      const Object& bias, const Object& target, const Object& negatives,
                      const Object& log_q, const Object& target_log_q, double scale, double elu,
                      double regularization, double beta, const std::string& precision,
                      const Object& loss, const Object& row_grad, const Object& dhidden,
                      const Object& dtarget_scores, const Object& dnegatives,
                      const Object& dnegative_bias) {
    const char* const name = function.c_str();
    SampledLossCall<T> call{};
    call.kind = parse_sampled_loss(kind);
    call.collisions = parse_collisions(collisions);
    call.hidden = matrix_view<const T>(name, "hidden", hidden);
    call.weight = matrix_view<const T>(name, "weight", weight);
    call.bias = matrix_view<const T>(name, "bias", bias);
    call.target = matrix_view<const std::int64_t>(name, "target", target);
    call.negatives = matrix_view<const std::int64_t>(name, "negatives", negatives);
    // (S) is shared by all rows, even by a single one.
    call.per_row =
        py::cast<int>(negatives.attr("ndim")) == 2 && call.negatives.rows == call.hidden.rows;
    call.log_q = matrix_view<const T>(name, "log_q", log_q);
    call.target_log_q = matrix_view<const T>(name, "target_log_q", target_log_q);
    call.scale = scale;
    call.elu = elu;
    call.regularization = regularization;
    call.beta = beta;
    call.precision = parse_precision(precision);
    call.loss = matrix_view<T>(name, "loss", loss);
    call.row_grad = matrix_view<const T>(name, "row_grad", row_grad);
    call.dhidden = matrix_view<T>(name, "dhidden", dhidden);
    call.dtarget_scores = matrix_view<T>(name, "dtarget_scores", dtarget_scores);
    call.dnegatives = matrix_view<T>(name, "dnegatives", dnegatives);
    call.dnegative_bias = matrix_view<T>(name, "dnegative_bias", dnegative_bias);
    const py::gil_scoped_release release;
    sampled_loss(name, call);
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    const auto name = [&](const char* function) { return function + suffix; };
    m.def(name("sampled_loss").c_str(), &run_sampled_loss<T>, py::arg("function"), py::arg("kind"),
          py::arg("collisions"), py::arg("hidden"), py::arg("weight"), py::arg("bias"),
          py::arg("target"), py::arg("negatives"), py::arg("log_q"), py::arg("target_log_q"),
          py::arg("scale"), py::arg("elu"), py::arg("regularization"), py::arg("beta"),
          py::arg("precision"), py::arg("loss"), py::arg("row_grad"), py::arg("dhidden"),
          py::arg("dtarget_scores"), py::arg("dnegatives"), py::arg("dnegative_bias"));
}

}  // namespace

void register_sampled_loss(py::module_& m) {
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
