"""Recommenders as PyTorch modules, built from :mod:`seqrec_fast.nn`."""

from __future__ import annotations

from .dien import DIEN
from .din import DIN
from .gru4rec import GRU4Rec
from .recurrent_ctr import RecurrentCTR

__all__ = ["DIEN", "DIN", "GRU4Rec", "RecurrentCTR"]
