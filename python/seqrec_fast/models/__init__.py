"""Recommenders as PyTorch modules, built from :mod:`seqrec_fast.nn`."""

from __future__ import annotations

from .gru4rec import GRU4Rec

__all__ = ["GRU4Rec"]
