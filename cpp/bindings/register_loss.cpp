#include <pybind11/stl.h>

#include <string>

#include "bindings/array_caster.h"
#include "bindings/cross_entropy_call.h"
#include "bindings/register.h"
#include "bindings/row_rule_binding.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

template <class T>
void run_cross_entropy(const Object& hidden, const Object& weight, const Object& bias,
                       const Object& target, double scale, double softcap, double label_smoothing,
                       const std::string& precision, const Object& loss, const Object& log_sum) {
    const char* const kName = "linear_cross_entropy";
    CrossEntropy<T> call = read_cross_entropy<T>(Arrays{kName}, hidden, weight, bias, target, scale,
                                                 softcap, label_smoothing, precision, log_sum);
    call.loss = matrix_view<T>(kName, "loss", loss);
    const py::gil_scoped_release release;
    cross_entropy(kName, call);
}

template <class T>
void run_cross_entropy_grad(const Object& hidden, const Object& weight, const Object& bias,
                            const Object& target, double scale, double softcap,
                            double label_smoothing, const std::string& precision,
                            const Object& log_sum, const Object& row_grad, const Object& dhidden,
                            const Object& dweight, const Object& dbias, const Object& rule) {
    const char* const kName = "linear_cross_entropy";
    CrossEntropyGrad<T> call{};
    call.forward = read_cross_entropy<T>(Arrays{kName}, hidden, weight, bias, target, scale,
                                         softcap, label_smoothing, precision, log_sum);
    call.row_grad = matrix_view<const T>(kName, "row_grad", row_grad);
    call.dhidden = matrix_view<T>(kName, "dhidden", dhidden);
    call.dweight = matrix_view<T>(kName, "dweight", dweight);
    call.dbias = matrix_view<T>(kName, "dbias", dbias);
    RowRule<T> row_rule;
    if (!rule.is_none()) {
        row_rule = read_rule<T>(kName, py::cast<py::tuple>(rule));
        call.rule = &row_rule;
        call.table = matrix_view<T>(kName, "weight", weight);
    }
    const py::gil_scoped_release release;
    cross_entropy_grad(kName, call);
}

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
    call.per_row = py::reinterpret_borrow<py::array>(negatives).ndim() == 2 &&
                   call.negatives.rows == call.hidden.rows;
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

py::array_t<std::int64_t> array_of(const std::vector<std::int64_t>& values) {
    return py::array_t<std::int64_t>(static_cast<py::ssize_t>(values.size()), values.data());
}

py::tuple run_order_rows(const Object& ids) {
    const auto view = matrix_view<const std::int64_t>("order_rows", "ids", ids);
    check_shape("order_rows", "ids", view, 1, view.columns);
    const RowOrder order = order_rows(view.data, view.columns);
    return py::make_tuple(array_of(order.order), array_of(order.begin), array_of(order.ids));
}

template <class T>
void run_row_sum(const Object& order, const Object& begin, const py::list& rows,
                 const Object& factors, const Object& sums,
                 const std::vector<std::int64_t>& repeats) {
    const char* const kName = "row_sum";
    RowSum<T> call;
    call.order = matrix_view<const std::int64_t>(kName, "order", order);
    call.begin = matrix_view<const std::int64_t>(kName, "begin", begin);
    for (const py::handle part : rows) {
        call.rows.push_back(
            matrix_view<const T>(kName, "rows", py::reinterpret_borrow<Object>(part)));
    }
    call.repeats = repeats;
    call.factors = matrix_view<const T>(kName, "factors", factors);
    call.sums = matrix_view<T>(kName, "sums", sums);
    const py::gil_scoped_release release;
    row_sum(kName, call);
}

template <class T>
void run_update_rows(const py::tuple& rule, const Object& ids, const Object& gradients,
                     const Object& table) {
    const char* const kName = "update_rows";
    TableUpdate<T> call;
    call.rule = read_rule<T>(kName, rule);
    call.ids = matrix_view<const std::int64_t>(kName, "ids", ids);
    call.gradients = matrix_view<const T>(kName, "gradients", gradients);
    call.table = matrix_view<T>(kName, "table", table);
    const py::gil_scoped_release release;
    update_rows(kName, call);
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    const auto name = [&](const char* function) { return function + suffix; };
    m.def(name("cross_entropy").c_str(), &run_cross_entropy<T>, py::arg("hidden"),
          py::arg("weight"), py::arg("bias"), py::arg("target"), py::arg("scale"),
          py::arg("softcap"), py::arg("label_smoothing"), py::arg("precision"), py::arg("loss"),
          py::arg("log_sum"));
    m.def(name("cross_entropy_grad").c_str(), &run_cross_entropy_grad<T>, py::arg("hidden"),
          py::arg("weight"), py::arg("bias"), py::arg("target"), py::arg("scale"),
          py::arg("softcap"), py::arg("label_smoothing"), py::arg("precision"), py::arg("log_sum"),
          py::arg("row_grad"), py::arg("dhidden"), py::arg("dweight"), py::arg("dbias"),
          py::arg("rule"));
    m.def(name("sampled_loss").c_str(), &run_sampled_loss<T>, py::arg("function"), py::arg("kind"),
          py::arg("collisions"), py::arg("hidden"), py::arg("weight"), py::arg("bias"),
          py::arg("target"), py::arg("negatives"), py::arg("log_q"), py::arg("target_log_q"),
          py::arg("scale"), py::arg("elu"), py::arg("regularization"), py::arg("beta"),
          py::arg("precision"), py::arg("loss"), py::arg("row_grad"), py::arg("dhidden"),
          py::arg("dtarget_scores"), py::arg("dnegatives"), py::arg("dnegative_bias"));
    m.def(name("row_sum").c_str(), &run_row_sum<T>, py::arg("order"), py::arg("begin"),
          py::arg("rows"), py::arg("factors"), py::arg("sums"),
          py::arg("repeats") = std::vector<std::int64_t>());
    m.def(name("update_rows").c_str(), &run_update_rows<T>, py::arg("rule"), py::arg("ids"),
          py::arg("gradients"), py::arg("table"));
}

}  // namespace

void register_loss(py::module_& m) {
    m.def("order_rows", &run_order_rows, py::arg("ids"));
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
}

}  // namespace seqrec_fast
