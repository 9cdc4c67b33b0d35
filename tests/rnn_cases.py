"""The one list of shapes, and the one tolerance rule, of the recurrent tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import seqrec_fast.nn as snn

CELLS = ("gru", "gru_reset_before", "lstm", "rnn_tanh", "rnn_relu")
ATTENTION_CELLS = ("augru_paper", "augru_tf", "agru")
# Around the widths of vectors and register tiles, and far from them.
SIZES = (1, 7, 16, 63, 100, 129, 257)
# PyTorch in the same dtype may be lucky in one tensor: its error counts as at least this.
ERROR_FLOOR = {torch.float32: 3e-7, torch.float64: 6e-16}


def relative_error(value: Any, truth: Any) -> float:
    value, truth = np.asarray(value, np.float64), np.asarray(truth, np.float64)
    return float(np.linalg.norm(value - truth) / (np.linalg.norm(truth) + 1e-30))


def assert_at_most_twice(ours: Any, theirs: Any, truth: Any, dtype: torch.dtype, name: str) -> None:
    """Our error against the float64 truth is at most twice that of PyTorch."""
    allowed = 2 * max(relative_error(theirs, truth), ERROR_FLOOR[dtype])
    assert relative_error(ours, truth) <= allowed, name


def make_weights(
    rng: np.random.Generator, cell: str, input_size: int, hidden: int, projection: int = 0
) -> dict[str, np.ndarray]:
    gates = {"lstm": 4, "rnn_tanh": 1, "rnn_relu": 1}.get(cell, 3)
    state = projection or hidden
    shapes = {
        "weight_ih": (gates * hidden, input_size),
        "weight_hh": (gates * hidden, state),
        "bias_ih": (gates * hidden,),
        "bias_hh": (gates * hidden,),
    }
    if projection:
        shapes["weight_hr"] = (projection, hidden)
    bound = 1 / np.sqrt(hidden)
    return {name: rng.uniform(-bound, bound, shape) for name, shape in shapes.items()}


def pair(kind: str, *args: Any, **kwargs: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
    """torch.nn's module and ours with the same parameters."""
    theirs = getattr(torch.nn, kind)(*args, **kwargs)
    ours = getattr(snn, kind)(*args, **kwargs)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours
