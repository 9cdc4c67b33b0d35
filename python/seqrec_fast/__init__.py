"""Fused recurrent layers, exact top-k and session recommenders on the CPU, without PyTorch."""

from __future__ import annotations

from typing import Any

try:
    from . import _core
except ImportError as error:  # pragma: no cover - a broken or missing build
    raise ImportError(
        "seqrec_fast: its compiled part cannot be loaded; install the package with `pip install .`"
    ) from error

from . import config
from .augru import AUGRU
from .config import (
    active_backend,
    active_target,
    force_backend,
    force_target,
    get_num_threads,
    set_num_threads,
    show_config,
    supported_backends,
    supported_targets,
)
from .layers import GRU, LSTM, RNN

__version__: str = _core.__version__

# Names that pull in more than NumPy, or that only some programs need: loaded at first use.
_LAZY = {
    "Dispatch": "dispatch",
    "Segments": "segments",
    "StreamingDispatch": "dispatch",
    "StreamingSegments": "segments",
    "dispatch_by_expert": "dispatch",
    "route_segments": "segments",
    "session_segments": "segments",
    "ItemIndex": "index",
    "merge_topk": "index",
    "topk": "index",
    "ClickPredictor": "click_predictor",
    "Recommender": "recommender",
    "load": "recommender",
    "SessionStore": "sessions",
    "expert_gate": "gating",
}

__all__ = [
    "AUGRU",
    "GRU",
    "LSTM",
    "RNN",
    "ClickPredictor",
    "Dispatch",
    "ItemIndex",
    "Recommender",
    "Segments",
    "SessionStore",
    "StreamingDispatch",
    "StreamingSegments",
    "active_backend",
    "active_target",
    "config",
    "dispatch_by_expert",
    "expert_gate",
    "force_backend",
    "force_target",
    "get_num_threads",
    "load",
    "merge_topk",
    "route_segments",
    "session_segments",
    "set_num_threads",
    "show_config",
    "supported_backends",
    "supported_targets",
    "topk",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'seqrec_fast' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_LAZY[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
