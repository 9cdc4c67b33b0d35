// Forward and backward of one recurrent layer with oneDNN: reads parameters and input, then runs once
// per line of its standard input and prints the seconds.
//
//     onednn_training gru|augru T B H FILE
//
// FILE holds float32: x (T, B, H), attention (T, B), weight_ih and weight_hh as (H, 3, H), bias
// (4, H), in oneDNN's order of gates, dy (T, B, H). After the first run the output (T, B, H), the
// gradients of x (T, B, H) and of the attention (T, B) are appended to it.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <string>
#include <type_traits>
#include <unordered_map>
#include <vector>

#include "oneapi/dnnl/dnnl.hpp"

using dnnl::memory;
using Tag = memory::format_tag;
using Args = std::unordered_map<int, memory>;

namespace {

constexpr auto kF32 = memory::data_type::f32;
constexpr memory::dim kGates = 3, kBiases = 4;

dnnl::engine engine{dnnl::engine::kind::cpu, 0};
dnnl::stream stream{engine};

memory holding(std::vector<float>& values, const memory::dims& dims, Tag tag) {
    return memory({dims, kF32, tag}, engine, values.data());
}

memory converted(memory from, const memory::desc& wanted) {
    memory to(wanted, engine);
    dnnl::reorder(from, to).execute(stream, from, to);
    stream.wait();
    return to;
}

void fill_zero(memory& to) {
    std::memset(to.get_data_handle(), 0, to.get_desc().get_size());
}

template <class Forward, class Backward>
int run(memory::dim t, memory::dim n, memory::dim h, const char* path) {
    constexpr bool kAttention = std::is_same_v<Forward, dnnl::lbr_augru_forward>;
    std::vector<float> x(t * n * h), attention(t * n), w_x(h * kGates * h), w_h(h * kGates * h);
    std::vector<float> bias(kBiases * h), dy(t * n * h), zeros(n * h);
    std::FILE* file = std::fopen(path, "rb");
    if (file == nullptr) {
        return 1;
    }
    for (auto* part : {&x, &attention, &w_x, &w_h, &bias, &dy}) {
        if (std::fread(part->data(), sizeof(float), part->size(), file) != part->size()) {
            return 1;
        }
    }
    std::fclose(file);
    const memory::dims w_dims = {1, 1, h, kGates, h};
    const memory::desc events({t, n, h}, kF32, Tag::tnc), scores({t, n, 1}, kF32, Tag::tnc);
    const memory::desc state({1, 1, n, h}, kF32, Tag::ldnc), any(w_dims, kF32, Tag::any);
    const memory::desc b({1, 1, kBiases, h}, kF32, Tag::ldgo);
    const auto training = dnnl::prop_kind::forward_training;
    const auto backward = dnnl::prop_kind::backward;
    const auto direction = dnnl::rnn_direction::unidirectional_left2right;
    const auto forward_pd = [&] {
        if constexpr (kAttention) {
            return typename Forward::primitive_desc(engine, training, direction, events, state,
                                                    scores, any, any, b, events, state);
        } else {
            return typename Forward::primitive_desc(engine, training, direction, events, state, any,
                                                    any, b, events, state);
        }
    }();
    const auto backward_pd = [&] {
        if constexpr (kAttention) {
            return typename Backward::primitive_desc(
                engine, backward, direction, events, state, scores, any, any, b, events, state,
                events, state, scores, any, any, b, events, state, forward_pd);
        } else {
            return typename Backward::primitive_desc(
                engine, backward, direction, events, state, any, any, b, events, state, events,
                state, any, any, b, events, state, forward_pd);
        }
    }();
    const memory w_x_plain = holding(w_x, w_dims, Tag::ldigo);
    const memory w_h_plain = holding(w_h, w_dims, Tag::ldigo);
    memory y(events, engine), h_n(state, engine), dx(events, engine), dh_0(state, engine);
    memory workspace(forward_pd.workspace_desc(), engine), dattention(scores, engine);
    memory dw_x(backward_pd.diff_weights_layer_desc(), engine);
    memory dw_h(backward_pd.diff_weights_iter_desc(), engine), db(b, engine);
    Args args = {{DNNL_ARG_SRC_LAYER, holding(x, {t, n, h}, Tag::tnc)},
                 {DNNL_ARG_SRC_ITER, holding(zeros, {1, 1, n, h}, Tag::ldnc)},
                 {DNNL_ARG_BIAS, holding(bias, {1, 1, kBiases, h}, Tag::ldgo)},
                 {DNNL_ARG_DST_LAYER, y},
                 {DNNL_ARG_DST_ITER, h_n},
                 {DNNL_ARG_WORKSPACE, workspace}};
    if (kAttention) {
        args.emplace(DNNL_ARG_AUGRU_ATTENTION, holding(attention, {t, n, 1}, Tag::tnc));
    }
    Args back = args;
    args.emplace(DNNL_ARG_WEIGHTS_LAYER, converted(w_x_plain, forward_pd.weights_layer_desc()));
    args.emplace(DNNL_ARG_WEIGHTS_ITER, converted(w_h_plain, forward_pd.weights_iter_desc()));
    back.emplace(DNNL_ARG_WEIGHTS_LAYER, converted(w_x_plain, backward_pd.weights_layer_desc()));
    back.emplace(DNNL_ARG_WEIGHTS_ITER, converted(w_h_plain, backward_pd.weights_iter_desc()));
    back.emplace(DNNL_ARG_DIFF_DST_LAYER, holding(dy, {t, n, h}, Tag::tnc));
    back.emplace(DNNL_ARG_DIFF_DST_ITER, holding(zeros, {1, 1, n, h}, Tag::ldnc));
    back.emplace(DNNL_ARG_DIFF_SRC_LAYER, dx);
    back.emplace(DNNL_ARG_DIFF_SRC_ITER, dh_0);
    back.emplace(DNNL_ARG_DIFF_WEIGHTS_LAYER, dw_x);
    back.emplace(DNNL_ARG_DIFF_WEIGHTS_ITER, dw_h);
    back.emplace(DNNL_ARG_DIFF_BIAS, db);
    if (kAttention) {
        back.emplace(DNNL_ARG_DIFF_AUGRU_ATTENTION, dattention);
    }
    fill_zero(dattention);
    const Forward forward_step(forward_pd);
    const Backward backward_step(backward_pd);
    std::string line;
    for (bool first = true; std::getline(std::cin, line); first = false) {
        const auto start = std::chrono::steady_clock::now();
        // Gradients of weights are added to what is there.
        for (memory* gradient : {&dw_x, &dw_h, &db}) {
            fill_zero(*gradient);
        }
        forward_step.execute(stream, args);
        backward_step.execute(stream, back);
        stream.wait();
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
        if (first) {
            std::FILE* output = std::fopen(path, "ab");
            for (const memory* result : {&y, &dx, &dattention}) {
                std::fwrite(result->get_data_handle(), 1, result->get_desc().get_size(), output);
            }
            std::fclose(output);
        }
        std::printf("%.9f\n", seconds.count());
        std::fflush(stdout);
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 6) {
        return 2;
    }
    const memory::dim t = std::atol(argv[2]), n = std::atol(argv[3]), h = std::atol(argv[4]);
    try {
        return std::strcmp(argv[1], "augru") == 0
                   ? run<dnnl::lbr_augru_forward, dnnl::lbr_augru_backward>(t, n, h, argv[5])
                   : run<dnnl::lbr_gru_forward, dnnl::lbr_gru_backward>(t, n, h, argv[5]);
    } catch (const dnnl::error& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 3;
    }
}
