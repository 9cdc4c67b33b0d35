// One recurrent layer with oneDNN: reads parameters and input, then runs once per line of its
// standard input and prints the seconds.
//
//     onednn_rnn gru|lstm float32|bfloat16 T B H FILE
//
// FILE holds float32: x (T, B, H), weight_ih and weight_hh as (H, gates, H), bias (gates or 4, H),
// in oneDNN's order of gates; the output (T, B, H) is appended to it after the first run.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <unordered_map>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"

using dnnl::memory;
using Tag = memory::format_tag;

namespace {

struct Problem {
    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream{engine};
    memory::dim steps, batch, hidden;
    memory::data_type type;
};

memory converted(Problem& p, const std::vector<float>& values, const memory::dims& dims, Tag tag,
                 const memory::desc& wanted) {
    memory from({dims, memory::data_type::f32, tag}, p.engine,
                const_cast<float*>(values.data()));
    memory to(wanted, p.engine);
    dnnl::reorder(from, to).execute(p.stream, from, to);
    p.stream.wait();
    return to;
}

template <class Primitive, class... Extra>
int run(Problem& p, memory::dim gates, memory::dim biases, bool lstm, const char* path) {
    const memory::dim t = p.steps, n = p.batch, h = p.hidden;
    std::vector<float> x(t * n * h), w_x(h * gates * h), w_h(h * gates * h), bias(biases * h);
    std::FILE* file = std::fopen(path, "rb");
    if (file == nullptr) {
        return 1;
    }
    for (auto* part : {&x, &w_x, &w_h, &bias}) {
        if (std::fread(part->data(), sizeof(float), part->size(), file) != part->size()) {
            return 1;
        }
    }
    std::fclose(file);
    const auto f32 = memory::data_type::f32;
    const memory::desc src({t, n, h}, p.type, Tag::tnc), dst({t, n, h}, p.type, Tag::tnc);
    const memory::desc iter({1, 1, n, h}, p.type, Tag::ldnc), cell({1, 1, n, h}, f32, Tag::ldnc);
    const memory::desc w_any({1, 1, h, gates, h}, p.type, Tag::any);
    const memory::desc b({1, 1, biases, h}, f32, Tag::ldgo);
    const auto kind = dnnl::prop_kind::forward_inference;
    const auto direction = dnnl::rnn_direction::unidirectional_left2right;
    const auto descriptor = [&] {
        if constexpr (std::is_same_v<Primitive, dnnl::lstm_forward>) {
            return dnnl::lstm_forward::primitive_desc(p.engine, kind, direction, src, iter, cell,
                                                      w_any, w_any, b, dst, iter, cell);
        } else {
            return dnnl::lbr_gru_forward::primitive_desc(p.engine, kind, direction, src, iter,
                                                         w_any, w_any, b, dst, iter);
        }
    }();
    const memory::dims w_dims = {1, 1, h, gates, h};
    memory x_m = converted(p, x, {t, n, h}, Tag::tnc, src);
    memory w_x_m = converted(p, w_x, w_dims, Tag::ldigo, descriptor.weights_layer_desc());
    memory w_h_m = converted(p, w_h, w_dims, Tag::ldigo, descriptor.weights_iter_desc());
    memory b_m = converted(p, bias, {1, 1, biases, h}, Tag::ldgo, b);
    const std::vector<float> zeros(n * h);
    memory h_0 = converted(p, zeros, {1, 1, n, h}, Tag::ldnc, iter);
    memory h_n(iter, p.engine), y(dst, p.engine);
    std::unordered_map<int, memory> args = {
        {DNNL_ARG_SRC_LAYER, x_m},     {DNNL_ARG_SRC_ITER, h_0}, {DNNL_ARG_WEIGHTS_LAYER, w_x_m},
        {DNNL_ARG_WEIGHTS_ITER, w_h_m}, {DNNL_ARG_BIAS, b_m},    {DNNL_ARG_DST_LAYER, y},
        {DNNL_ARG_DST_ITER, h_n}};
    if (lstm) {
        args.emplace(DNNL_ARG_SRC_ITER_C, converted(p, zeros, {1, 1, n, h}, Tag::ldnc, cell));
        args.emplace(DNNL_ARG_DST_ITER_C, memory(cell, p.engine));
    }
    const Primitive primitive(descriptor);
    std::string line;
    for (bool first = true; std::getline(std::cin, line); first = false) {
        const auto start = std::chrono::steady_clock::now();
        primitive.execute(p.stream, args);
        p.stream.wait();
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        if (first) {
            const memory::desc plain({t, n, h}, f32, Tag::tnc);
            std::vector<float> out(t * n * h);
            memory to(plain, p.engine, out.data());
            dnnl::reorder(y, to).execute(p.stream, y, to);
            p.stream.wait();
            std::FILE* output = std::fopen(path, "ab");
            std::fwrite(out.data(), sizeof(float), out.size(), output);
            std::fclose(output);
        }
        std::printf("%.9f\n", seconds.count());
        std::fflush(stdout);
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 7) {
        return 2;
    }
    Problem p;
    p.steps = std::atol(argv[3]);
    p.batch = std::atol(argv[4]);
    p.hidden = std::atol(argv[5]);
    p.type = std::strcmp(argv[2], "bfloat16") == 0 ? memory::data_type::bf16
                                                   : memory::data_type::f32;
    try {
        return std::strcmp(argv[1], "lstm") == 0
                   ? run<dnnl::lstm_forward>(p, 4, 4, true, argv[6])
                   : run<dnnl::lbr_gru_forward>(p, 3, 4, false, argv[6]);
    } catch (const dnnl::error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 3;
    }
}
