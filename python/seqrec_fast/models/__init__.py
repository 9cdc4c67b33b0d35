"""Recommenders as PyTorch modules, built from :mod:`seqrec_fast.nn`."""

from __future__ import annotations

try:
    import torch as _torch
except ImportError as error:
    raise ImportError("seqrec_fast.models needs PyTorch: pip install seqrec-fast[train]") from error

from ._import import load_module
from .device_recommender import DeviceRecommender
from .dien import DIEN
from .din import DIN
from .gru4rec import GRU4Rec
from .recurrent_ctr import RecurrentCTR
from .theme_mixture import ThemeMixture

#: Models that score the next item after each event; Trainer trains them.
NextItemModel = GRU4Rec | ThemeMixture

__all__ = [
    "DIEN",
    "DIN",
    "DeviceRecommender",
    "GRU4Rec",
    "NextItemModel",
    "RecurrentCTR",
    "ThemeMixture",
    "load_module",
]
del _torch
