"""Checkpoints of other programs as model files; needs neither PyTorch nor the other program."""

from __future__ import annotations

from seqrec_fast.convert._gru4rec import gru4rec

__all__ = ["gru4rec"]
