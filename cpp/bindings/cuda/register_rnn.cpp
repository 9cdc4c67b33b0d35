#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <tuple>

#include "bindings/cuda/device_array.h"
#include "bindings/cuda/register.h"
#include "ops/cuda/rnn.h"

namespace py = pybind11;

namespace seqrec_fast {
namespace {

using Object = py::object;

DeviceSequences sequences(const char* function, std::int64_t experts, std::int64_t batch,
                          std::int64_t seq_len, bool batch_first, const Object& first,
                          const Object& step, const Object& length, const Object& order) {
    return {batch,
            seq_len,
            batch_first,
            device_view<const std::int64_t>(function, "first", first),
            device_view<const std::int64_t>(function, "step", step),
            device_view<const std::int64_t>(function, "length", length),
            device_view<const std::int64_t>(function, "order", order),
            experts};
}

// recurrent_dropout, zoneout, bits
using Noise = std::tuple<double, double, Object>;
DeviceNoise device_noise(const char* function, const Noise& noise) {
    return {std::get<0>(noise), std::get<1>(noise),
            device_view<const std::uint8_t>(function, "noise", std::get<2>(noise))};
}

StepPart parse_part(const std::string& part) {
    if (part == "start") {
        return StepPart::start;
    }
    if (part == "first") {
        return StepPart::first;
    }
    if (part == "second") {
        return StepPart::second;
    }
    SEQREC_CHECK(part == "end", "rnn: part is '", part, "'; expected start, first, second or end");
    return StepPart::end;
}

// part, index, rows, sum_rows, sums, left, left_packed, h, other
using Step = std::optional<std::tuple<std::string, std::int64_t, std::int64_t, std::int64_t, Object,
                                      Object, Object, Object, Object>>;
template <class T>
StepCall<T> step_call(const char* function, const Step& given) {
    using Sum = typename LoopTypes<T>::Sum;
    if (!given) {
        return {};
    }
    const auto& [part, index, rows, sum_rows, sums, left, left_packed, h, other] = *given;
    return {parse_part(part),
            index,
            rows,
            sum_rows,
            device_view<const Sum>(function, "sums", sums),
            device_view<T>(function, "left", left),
            device_view<typename LoopTypes<T>::Packed>(function, "left_packed", left_packed),
            device_view<Sum>(function, "h", h),
            device_view<Sum>(function, "other", other)};
}

void draw_noise(std::int64_t experts, std::int64_t batch, std::int64_t seq_len, bool batch_first,
                const Object& first, const Object& step, const Object& length, const Object& order,
                double recurrent_dropout, double zoneout, const Object& seed,
                std::uint32_t noise_stream, const Object& session_numbers, const Object& bits,
                std::uintptr_t stream) {
    constexpr const char* kName = "rnn_noise";
    const NoiseDraw call{
        sequences(kName, experts, batch, seq_len, batch_first, first, step, length, order),
        recurrent_dropout,
        zoneout,
        device_view<const std::int64_t>(kName, "seed", seed),
        noise_stream,
        device_view<const std::int64_t>(kName, "sessions", session_numbers),
        device_view<std::uint8_t>(kName, "bits", bits)};
    const py::gil_scoped_release release;
    rnn_noise(call, as_stream(stream));
}

template <class T>
void forward(const std::string& cell, std::int64_t experts, std::int64_t batch,
             std::int64_t seq_len, bool batch_first, const Object& first, const Object& step,
             const Object& length, const Object& order, const Object& weight_hh_t,
             const Object& packed, const Object& x_gates, const Object& bias_hh, const Object& h_0,
             const Object& c_0, const Object& reset, const Object& attention, const Noise& noise,
             bool reverse, const Object& y, const Object& h_n, const Object& c_n,
             const Object& saved, const Step& one_step, std::uintptr_t stream) {
    constexpr const char* kName = "rnn_forward";
    const RnnLoop<T> call{
        parse_cell_kind(cell),
        sequences(kName, experts, batch, seq_len, batch_first, first, step, length, order),
        {device_view<const T>(kName, "weight_hh_t", weight_hh_t),
         device_view<const typename LoopTypes<T>::Packed>(kName, "packed", packed)},
        device_view<const T>(kName, "x_gates", x_gates),
        device_view<const T>(kName, "bias_hh", bias_hh),
        device_view<const T>(kName, "h_0", h_0),
        device_view<const T>(kName, "c_0", c_0),
        device_view<const std::uint8_t>(kName, "reset", reset),
        device_view<const T>(kName, "attention", attention),
        device_noise(kName, noise),
        reverse,
        device_view<T>(kName, "y", y),
        device_view<T>(kName, "h_n", h_n),
        device_view<T>(kName, "c_n", c_n),
        device_view<T>(kName, "saved", saved),
        step_call<T>(kName, one_step)};
    const py::gil_scoped_release release;
    rnn_forward(call, as_stream(stream));
}

template <class T>
void backward(const std::string& cell, std::int64_t experts, std::int64_t batch,
              std::int64_t seq_len, bool batch_first, const Object& first, const Object& step,
              const Object& length, const Object& order, const Object& weight_hh,
              const Object& packed, const Object& h_0, const Object& c_0, const Object& reset,
              const Object& attention, const Noise& noise, bool reverse, const Object& y,
              const Object& saved, const Object& dy, const Object& dh_n, const Object& dc_n,
              const Object& dgates, const Object& h_before, const Object& rh_before,
              const Object& dh_0, const Object& dc_0, const Object& dattention,
              const Step& one_step, std::uintptr_t stream) {
    constexpr const char* kName = "rnn_backward";
    const RnnLoopGrad<T> call{
        parse_cell_kind(cell),
        sequences(kName, experts, batch, seq_len, batch_first, first, step, length, order),
        {device_view<const T>(kName, "weight_hh", weight_hh),
         device_view<const typename LoopTypes<T>::Packed>(kName, "packed", packed)},
        device_view<const T>(kName, "h_0", h_0),
        device_view<const T>(kName, "c_0", c_0),
        device_view<const std::uint8_t>(kName, "reset", reset),
        device_view<const T>(kName, "attention", attention),
        device_noise(kName, noise),
        reverse,
        device_view<const T>(kName, "y", y),
        device_view<const T>(kName, "saved", saved),
        device_view<const T>(kName, "dy", dy),
        device_view<const T>(kName, "dh_n", dh_n),
        device_view<const T>(kName, "dc_n", dc_n),
        device_view<T>(kName, "dgates", dgates),
        device_view<T>(kName, "h_before", h_before),
        device_view<T>(kName, "rh_before", rh_before),
        device_view<T>(kName, "dh_0", dh_0),
        device_view<T>(kName, "dc_0", dc_0),
        device_view<T>(kName, "dattention", dattention),
        step_call<T>(kName, one_step)};
    const py::gil_scoped_release release;
    rnn_backward(call, as_stream(stream));
}

template <class T>
void register_for(py::module_& m, const std::string& suffix) {
    m.def(("rnn_forward" + suffix).c_str(), &forward<T>, py::arg("cell"), py::arg("experts"),
          py::arg("batch"), py::arg("seq_len"), py::arg("batch_first"), py::arg("first"),
          py::arg("step"), py::arg("length"), py::arg("order"), py::arg("weight_hh_t"),
          py::arg("packed"), py::arg("x_gates"), py::arg("bias_hh"), py::arg("h_0"), py::arg("c_0"),
          py::arg("reset"), py::arg("attention"), py::arg("noise"), py::arg("reverse"),
          py::arg("y"), py::arg("h_n"), py::arg("c_n"), py::arg("saved"), py::arg("one_step"),
          py::arg("stream"));
    m.def(("rnn_backward" + suffix).c_str(), &backward<T>, py::arg("cell"), py::arg("experts"),
          py::arg("batch"), py::arg("seq_len"), py::arg("batch_first"), py::arg("first"),
          py::arg("step"), py::arg("length"), py::arg("order"), py::arg("weight_hh"),
          py::arg("packed"), py::arg("h_0"), py::arg("c_0"), py::arg("reset"), py::arg("attention"),
          py::arg("noise"), py::arg("reverse"), py::arg("y"), py::arg("saved"), py::arg("dy"),
          py::arg("dh_n"), py::arg("dc_n"), py::arg("dgates"), py::arg("h_before"),
          py::arg("rh_before"), py::arg("dh_0"), py::arg("dc_0"), py::arg("dattention"),
          py::arg("one_step"), py::arg("stream"));
}

}  // namespace

void register_cuda_rnn(py::module_& m) {
    register_for<float>(m, "_f32");
    register_for<double>(m, "_f64");
    register_for<Bfloat16>(m, "_bf16");
    register_for<Float16>(m, "_f16");
    m.def("rnn_most_kept_bytes", &rnn_most_kept_bytes);
    m.def("rnn_noise", &draw_noise, py::arg("experts"), py::arg("batch"), py::arg("seq_len"),
          py::arg("batch_first"), py::arg("first"), py::arg("step"), py::arg("length"),
          py::arg("order"), py::arg("recurrent_dropout"), py::arg("zoneout"), py::arg("seed"),
          py::arg("noise_stream"), py::arg("sessions"), py::arg("bits"), py::arg("stream"));
}

}  // namespace seqrec_fast
