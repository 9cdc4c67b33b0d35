"""The PyTorch face of seqrec_fast: modules with the signatures of ``torch.nn``, faster."""

from __future__ import annotations

try:
    import torch as _torch
except ImportError as error:
    raise ImportError("seqrec_fast.nn needs PyTorch: pip install seqrec-fast[train]") from error

from . import functional
from ._mlp import Dice
from .attention_pooling import AttentionPooling, BilinearAttention
from .augru import AUGRU
from .cells import GRUCell, LSTMCell, RNNCell
from .dselect_k import DSelectK
from .expert_gate import ExpertGate
from .expert_rnn import ExpertAUGRU, ExpertGRU, ExpertLSTM
from .rnn import GRU, LSTM, RNN

__all__ = [
    "AUGRU",
    "GRU",
    "LSTM",
    "RNN",
    "AttentionPooling",
    "BilinearAttention",
    "DSelectK",
    "Dice",
    "ExpertAUGRU",
    "ExpertGRU",
    "ExpertGate",
    "ExpertLSTM",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "functional",
]
del _torch
