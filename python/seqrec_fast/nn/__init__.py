"""The PyTorch face of seqrec_fast: modules with the signatures of ``torch.nn``, faster."""

from __future__ import annotations

try:
    import torch as _torch
except ImportError as error:
    raise ImportError("seqrec_fast.nn needs PyTorch: pip install seqrec-fast[train]") from error

from . import functional
from .cells import GRUCell, LSTMCell, RNNCell
from .dselect_k import DSelectK
from .expert_gate import ExpertGate
from .rnn import GRU, LSTM, RNN

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "DSelectK",
    "ExpertGate",
    "GRUCell",
    "LSTMCell",
    "RNNCell",
    "functional",
]
del _torch
