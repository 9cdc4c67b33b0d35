#include "cells/cell_kind.h"

#include "base/check.h"

namespace seqrec_fast {

CellKind parse_cell_kind(const std::string& name) {
    if (name == "gru") return CellKind::gru;
    if (name == "gru_reset_before") return CellKind::gru_reset_before;
    if (name == "augru_paper") return CellKind::augru_paper;
    if (name == "augru_tf") return CellKind::augru_tf;
    if (name == "agru") return CellKind::agru;
    if (name == "lstm") return CellKind::lstm;
    if (name == "rnn_tanh") return CellKind::rnn_tanh;
    if (name == "rnn_relu") return CellKind::rnn_relu;
    throw std::invalid_argument(concat("cell '", name,
                                       "' is unknown; expected gru, gru_reset_before, "
                                       "augru_paper, augru_tf, agru, lstm, rnn_tanh or rnn_relu"));
}

}  // namespace seqrec_fast
