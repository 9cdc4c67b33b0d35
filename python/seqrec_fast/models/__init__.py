"""Recommenders as PyTorch modules, built from :mod:`seqrec_fast.nn`."""

from __future__ import annotations

from .gru4rec import GRU4Rec
from .theme_mixture import ThemeMixture

#: Models that score the next item after each event; Trainer trains them.
NextItemModel = GRU4Rec | ThemeMixture

__all__ = ["GRU4Rec", "NextItemModel", "ThemeMixture"]
