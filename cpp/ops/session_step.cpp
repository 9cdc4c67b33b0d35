#include "ops/session_step.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "cpu/dropout.h"
#include "cpu/row_order.h"
#include "cpu/row_update_kernels.h"
#include "ops/argument_checks.h"

namespace seqrec_fast {
namespace {

template <class T>
MatrixView<const T> read_only(const MatrixView<T>& view) {
    return {view.data, view.rows, view.columns, view.row_stride};
}

// A matrix of its own.
template <class T>
class Matrix {
  public:
    Matrix() = default;
    Matrix(std::int64_t rows, std::int64_t columns)
        : rows_(rows), columns_(columns), data_(static_cast<std::size_t>(rows * columns)) {}

    T* data() { return data_.data(); }
    const T* row(std::int64_t i) const { return data_.data() + i * columns_; }
    MatrixView<T> view() { return {data_.data(), rows_, columns_, columns_}; }
    MatrixView<const T> view() const { return {data_.data(), rows_, columns_, columns_}; }
    void fill(T value) { std::fill_n(data_.data(), rows_ * columns_, value); }

  private:
    std::int64_t rows_ = 0, columns_ = 0;
    AlignedBuffer<T> data_;
};

template <class T>
class Step {
  public:
    Step(const char* function, const SessionStep<T>& step)
        : function_(function),
          step_(step),
          items_(step.item_table.value.present() ? step.item_table : step.input_table),
          events_(step.items.columns),
          batch_(std::max<std::int64_t>(step.offsets.columns - 1, 0)),
          hidden_(items_.value.columns) {
        check();
    }

    double run() {
        forward();
        const double mean = loss();
        if (std::isfinite(mean) && events_ > 0) {
            backward();
            update_tables();
        }
        return mean;
    }

  private:
    struct Layer {
        RnnWeights<T> weights;
        Matrix<T> y, saved;
        Matrix<T> dropped;  // y after dropout; without dropout empty

        const Matrix<T>& out() const { return dropped.view().present() ? dropped : y; }
    };

    static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

    void check() {
        const SessionStep<T>& s = step_;
        const std::int64_t n_items = items_.value.rows;
        const auto n_layers = static_cast<std::int64_t>(s.layers.size());
        SEQREC_CHECK(n_layers > 0, function_, ": there are no layers");
        check_table("input_table", s.input_table, n_items, s.input_table.value.columns);
        check_table("item_table", items_, n_items, hidden_);
        check_table("item_bias", s.item_bias, 1, n_items);
        check_required(function_, "items", s.items, 1, events_);
        check_required(function_, "offsets", s.offsets, 1, batch_ + 1);
        check_required(function_, "target", s.target, 1, events_);
        check_required(function_, "negatives", s.negatives, 1, s.negatives.columns);
        check_ids(function_, "items", s.items, 0, n_items);
        for (const double p : {s.dropout_input, s.dropout_hidden}) {
            SEQREC_CHECK(p >= 0 && p < 1, function_, ": dropout is ", p,
                         "; expected 0 <= dropout < 1");
        }
        layout_ = SequenceLayout::ragged(s.offsets.data, batch_, events_, function_);
        check_shape(function_, "h_0", s.h_0, n_layers * batch_, hidden_);
        check_shape(function_, "c_0", s.c_0, n_layers * batch_, hidden_);
        check_required(function_, "h_n", s.h_n, n_layers * batch_, hidden_);
        for (std::int64_t l = 0; l < n_layers; ++l) {
            const TrainedLayer<T>& layer = s.layers[size(l)];
            const std::int64_t width = l == 0 ? s.input_table.value.columns : hidden_;
            const std::int64_t gates = gate_count(s.cell) * hidden_;
            const bool bare = !layer.weight_ih.value.present();
            SEQREC_CHECK(!bare || (l == 0 && width == gates), function_, ": layer ", l,
                         " has no weight_ih and an input of ", width, "; expected one of ", gates);
            check_table("weight_ih", layer.weight_ih, bare ? 0 : gates, bare ? 0 : width);
            check_table("weight_hh", layer.weight_hh, gates, hidden_);
            check_table("bias_ih", layer.bias_ih, 1, gates);
            check_table("bias_hh", layer.bias_hh, 1, gates);
            layers_.emplace_back();
            layers_.back().weights =
                checked_weights<T>(function_, {s.cell,
                                               read_only(layer.weight_ih.value),
                                               read_only(layer.weight_hh.value),
                                               read_only(layer.bias_ih.value),
                                               read_only(layer.bias_hh.value),
                                               {}});
        }
    }

    void check_table(const char* argument, const Trained<T>& table, std::int64_t rows,
                     std::int64_t columns) const {
        check_shape(function_, argument, table.value, rows, columns);
        if (table.value.present()) {
            rule_of(table, rows, columns);
        }
    }
    RowUpdate<T> rule_of(const Trained<T>& table, std::int64_t rows, std::int64_t columns) const {
        return checked_rule<T>(function_, {step_.rule, table.mean, table.square}, rows, columns);
    }

    // Layer l's part of the states of all layers.
    template <class U>
    MatrixView<U> part(const MatrixView<U>& states, std::int64_t l) const {
        if (!states.present()) {
            return {};
        }
        return {states.data + l * batch_ * hidden_, batch_, hidden_, hidden_};
    }

    // `stream` 0 is that of the input, l + 1 that of layer l's output.
    void drop(const T* from, const std::int64_t* ids, std::int64_t dim, std::uint32_t stream,
              T* to) const {
        const double p = stream == 0 ? step_.dropout_input : step_.dropout_hidden;
        dropout_cpu<T>({from, ids, events_, dim, p, step_.seed, stream, to});
    }

    void forward() {
        const MatrixView<T>& table = step_.input_table.value;
        x_ = Matrix<T>(events_, table.columns);
        drop(table.data, step_.items.data, table.columns, 0, x_.data());
        MatrixView<const T> x = read_only(x_.view());
        for (std::size_t l = 0; l < layers_.size(); ++l) {
            Layer& layer = layers_[l];
            const auto place = static_cast<std::int64_t>(l);
            layer.y = Matrix<T>(events_, hidden_);
            layer.saved = Matrix<T>(events_, saved_width<T>(step_.cell, hidden_));
            const PackedRnn<T> packed(layer.weights);
            RnnForward<T> call{};
            call.weights = &packed;
            call.layout = &layout_;
            call.x = x;
            call.h_0 = part(step_.h_0, place);
            call.c_0 = part(step_.c_0, place);
            call.reset = step_.reset;
            call.y = layer.y.view();
            call.h_n = part(step_.h_n, place);
            call.c_n = part(step_.c_n, place);
            call.saved = layer.saved.view();
            rnn_forward(function_, call);
            if (step_.dropout_hidden > 0) {
                layer.dropped = Matrix<T>(events_, hidden_);
                drop(layer.y.data(), nullptr, hidden_, static_cast<std::uint32_t>(l) + 1,
                     layer.dropped.data());
            }
            if (step_.carry_dropout) {
                carry(layer, call.h_n);
            }
            x = std::as_const(layer.out()).view();
        }
    }

    void carry(const Layer& layer, const MatrixView<T>& h_n) const {
        for (std::int64_t b = 0; b < batch_; ++b) {
            if (const std::int64_t length = layout_.length(b); length > 0) {
                std::copy_n(layer.out().row(layout_.row(b, length - 1)), hidden_,
                            h_n.data + b * hidden_);
            }
        }
    }

    double loss() {
        const std::int64_t n = step_.negatives.columns;
        Matrix<T> losses(1, events_), row_grad(1, events_);
        row_grad.fill(T(1) / static_cast<T>(std::max<std::int64_t>(events_, 1)));
        dhidden_ = Matrix<T>(events_, hidden_);
        dtarget_ = Matrix<T>(1, events_);
        dnegatives_ = Matrix<T>(n, hidden_);
        dnegative_bias_ = Matrix<T>(1, n);
        SampledLossCall<T> call{};
        call.kind = step_.loss;
        call.collisions = step_.collisions;
        call.hidden = layers_.back().out().view();
        call.weight = read_only(items_.value);
        call.bias = read_only(step_.item_bias.value);
        call.target = step_.target;
        call.negatives = step_.negatives;
        call.log_q = step_.log_q;
        call.target_log_q = step_.target_log_q;
        call.scale = 1;
        call.elu = step_.elu;
        call.regularization = step_.regularization;
        call.loss = losses.view();
        call.row_grad = std::as_const(row_grad).view();
        call.dhidden = dhidden_.view();
        call.dtarget_scores = dtarget_.view();
        call.dnegatives = dnegatives_.view();
        call.dnegative_bias = dnegative_bias_.view();
        sampled_loss(function_, call);
        return std::accumulate(losses.row(0), losses.row(0) + events_, 0.0) /
               static_cast<double>(std::max<std::int64_t>(events_, 1));
    }

    void backward() {
        Matrix<T> no_dh(batch_, hidden_);
        no_dh.fill(T(0));
        // Alone what comes before the first event needs the gradient of the state before it.
        const bool need_dh = layout_.longest() > 1;
        Matrix<T> dy = std::move(dhidden_);
        for (std::size_t l = layers_.size(); l-- > 0;) {
            Layer& layer = layers_[l];
            const auto place = static_cast<std::int64_t>(l);
            if (step_.dropout_hidden > 0) {
                drop(dy.data(), nullptr, hidden_, static_cast<std::uint32_t>(l) + 1, dy.data());
            }
            const MatrixView<const T> x =
                l == 0 ? std::as_const(x_).view() : layers_[l - 1].out().view();
            Matrix<T> dx(events_, x.columns), dc_0(batch_, hidden_);
            const bool lstm = step_.cell == CellKind::lstm;
            const PackedRnnGrad<T> packed(layer.weights, true, Precision::full, need_dh);
            Gradients gradients(step_.layers[l]);
            RnnBackward<T> call{};
            call.weights = &packed;
            call.layout = &layout_;
            call.x = x;
            call.h_0 = part(step_.h_0, place);
            call.c_0 = part(step_.c_0, place);
            call.reset = step_.reset;
            call.y = std::as_const(layer.y).view();
            call.saved = std::as_const(layer.saved).view();
            call.dy = std::as_const(dy).view();
            call.dh_n = std::as_const(no_dh).view();
            call.dc_n = lstm ? std::as_const(no_dh).view() : MatrixView<const T>();
            call.dx = dx.view();
            call.dc_0 = lstm ? dc_0.view() : MatrixView<T>();
            call.dweight_ih = gradients.weight_ih.view();
            call.dweight_hh = gradients.weight_hh.view();
            call.dbias_ih = gradients.bias_ih.view();
            call.dbias_hh = gradients.bias_hh.view();
            rnn_backward(function_, call);
            update(step_.layers[l].weight_ih, gradients.weight_ih);
            update(step_.layers[l].weight_hh, gradients.weight_hh);
            update(step_.layers[l].bias_ih, gradients.bias_ih);
            update(step_.layers[l].bias_hh, gradients.bias_hh);
            dy = std::move(dx);
        }
        dinput_ = std::move(dy);
        drop(dinput_.data(), nullptr, step_.input_table.value.columns, 0, dinput_.data());
    }

    struct Gradients {
        explicit Gradients(const TrainedLayer<T>& layer)
            : weight_ih(like(layer.weight_ih)),
              weight_hh(like(layer.weight_hh)),
              bias_ih(like(layer.bias_ih)),
              bias_hh(like(layer.bias_hh)) {}
        static Matrix<T> like(const Trained<T>& parameter) {
            const MatrixView<T>& value = parameter.value;
            return value.present() ? Matrix<T>(value.rows, value.columns) : Matrix<T>();
        }
        Matrix<T> weight_ih, weight_hh, bias_ih, bias_hh;
    };

    // All rows of a parameter.
    void update(const Trained<T>& parameter, const Matrix<T>& gradient) const {
        const MatrixView<T>& value = parameter.value;
        if (!value.present()) {
            return;
        }
        std::vector<std::int64_t> ids(size(value.rows));
        std::iota(ids.begin(), ids.end(), 0);
        row_update_cpu<T>({rule_of(parameter, value.rows, value.columns), ids.data(),
                           gradient.row(0), nullptr, value.rows, value.columns, value.data});
    }

    // Some rows of a table: row i of `rows`, times its factor, belongs to ids[i].
    void update_rows(const Trained<T>& parameter, std::int64_t dim, const RowOrder& order,
                     const std::vector<const T*>& rows, const T* factors) const {
        const auto n = static_cast<std::int64_t>(order.ids.size());
        const RowSumArgs<T> sums{
            order.order.data(), order.begin.data(), n, dim, rows.data(), factors, nullptr};
        const MatrixView<T>& value = parameter.value;
        row_update_cpu<T>({rule_of(parameter, value.rows, value.columns), order.ids.data(), nullptr,
                           &sums, n, dim, value.data});
    }

    void update_tables() const {
        const bool tied = !step_.item_table.value.present();
        const std::int64_t n = step_.negatives.columns;
        // targets and negatives, and for a tied table the items of the input
        std::vector<std::int64_t> ids;
        std::vector<const T*> rows, biases;
        std::vector<T> factors;
        const auto add = [&](const MatrixView<const std::int64_t>& of) {
            ids.insert(ids.end(), of.data, of.data + of.columns);
        };
        add(step_.target);
        add(step_.negatives);
        for (std::int64_t i = 0; i < events_; ++i) {
            rows.push_back(layers_.back().out().row(i));
            biases.push_back(dtarget_.row(0) + i);
            factors.push_back(*biases.back());
        }
        for (std::int64_t i = 0; i < n; ++i) {
            rows.push_back(dnegatives_.row(i));
            biases.push_back(dnegative_bias_.row(0) + i);
        }
        factors.resize(rows.size(), T(1));
        const RowOrder scored = order_rows(ids.data(), static_cast<std::int64_t>(ids.size()));
        if (step_.item_bias.value.present()) {
            update_rows(step_.item_bias, 1, scored, biases, nullptr);
        }
        std::vector<const T*> inputs;
        for (std::int64_t i = 0; i < events_; ++i) {
            inputs.push_back(dinput_.row(i));
        }
        if (tied) {
            add(step_.items);
            rows.insert(rows.end(), inputs.begin(), inputs.end());
            factors.resize(rows.size(), T(1));
            const RowOrder all = order_rows(ids.data(), static_cast<std::int64_t>(ids.size()));
            update_rows(step_.input_table, hidden_, all, rows, factors.data());
            return;
        }
        update_rows(step_.item_table, hidden_, scored, rows, factors.data());
        update_rows(step_.input_table, step_.input_table.value.columns,
                    order_rows(step_.items.data, events_), inputs, nullptr);
    }

    const char* function_;
    const SessionStep<T>& step_;
    const Trained<T>& items_;
    std::int64_t events_, batch_, hidden_;
    SequenceLayout layout_;
    std::vector<Layer> layers_;
    Matrix<T> x_, dhidden_, dtarget_, dnegatives_, dnegative_bias_, dinput_;
};

}  // namespace

template <class T>
double session_step(const char* function, const SessionStep<T>& step) {
    return Step<T>(function, step).run();
}

template double session_step(const char*, const SessionStep<float>&);
template double session_step(const char*, const SessionStep<double>&);

}  // namespace seqrec_fast
