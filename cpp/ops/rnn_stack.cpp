#include "ops/rnn_stack.h"

#include <algorithm>

#include "base/aligned_buffer.h"

namespace seqrec_fast {
namespace {

// Rows i * rows .. of a matrix that has one such block per layer and direction.
template <class T>
MatrixView<T> block(const MatrixView<T>& all, std::int64_t i, std::int64_t rows) {
    return all.present()
               ? MatrixView<T>{all.data + i * rows * all.columns, rows, all.columns, all.columns}
               : MatrixView<T>();
}

}  // namespace

template <class T>
void rnn_stack(const char* function, const RnnStack<T>& stack, const RnnStackRun<T>& run) {
    const std::int64_t events = run.layout->n_events(), batch = run.layout->batch();
    const std::int64_t state = stack.state_size(), width = stack.output_size();
    const auto blocks = static_cast<std::int64_t>(stack.layers.size()) * batch;
    check_shape(function, "h_0", run.h_0, blocks, state);
    check_shape(function, "c_0", run.c_0, blocks, stack.hidden_size());
    check_shape(function, "h_n", run.h_n, blocks, state);
    check_shape(function, "c_n", run.c_n, blocks, stack.hidden_size());
    check_shape(function, "y", run.y, events, width);
    AlignedBuffer<T> below, above;
    for (std::int64_t layer = 0; layer < stack.depth(); ++layer) {
        const bool top = layer + 1 == stack.depth();
        if (!top) {
            above = AlignedBuffer<T>(static_cast<std::size_t>(events * width));
        }
        for (std::int64_t direction = 0; direction < stack.directions; ++direction) {
            const std::int64_t i = layer * stack.directions + direction;
            RnnForward<T> call;
            call.weights = stack.layers[static_cast<std::size_t>(i)];
            call.layout = run.layout;
            if (layer > 0) {
                call.x = {below.data(), events, width, width};
            } else if (!stack.takes_ids()) {
                call.x = run.x;
            } else {
                call.ids = run.ids;
                call.x = stack.embedding;
                if (!stack.gate_tables.empty()) {
                    call.gate_table = stack.gate_tables[static_cast<std::size_t>(direction)];
                }
            }
            call.attention = run.attention;
            call.h_0 = block(run.h_0, i, batch);
            call.c_0 = block(run.c_0, i, batch);
            call.reverse = direction == 1;
            T* const y = top ? run.y.data : above.data();
            if (y != nullptr) {
                call.y = {y + direction * state, events, state, width};
            }
            call.h_n = block(run.h_n, i, batch);
            call.c_n = block(run.c_n, i, batch);
            rnn_forward(function, call);
        }
        if (!top && stack.layers.front()->float32_states) {
            // Rounded between layers too, so that the result is that of single layers.
            std::transform(above.data(), above.data() + events * width, above.data(),
                           [](T value) { return static_cast<T>(static_cast<float>(value)); });
        }
        std::swap(below, above);
    }
}

template void rnn_stack(const char*, const RnnStack<float>&, const RnnStackRun<float>&);
template void rnn_stack(const char*, const RnnStack<double>&, const RnnStackRun<double>&);

}  // namespace seqrec_fast
