"""
The expert gate against softmax and top-k of torch, on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_gate.py

`python -m bench.run gate` prints the ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from seqrec_fast.nn import functional as SF

Runs = dict[str, Callable[[], object]]


class Shape(NamedTuple):
    """A batch of logits."""

    rows: int
    experts: int
    k: int
    backward: bool = False
    score: str = "softmax"

    def __str__(self) -> str:
        passes = "forward+backward" if self.backward else "forward"
        return f"gate {self.rows} x {self.experts} k={self.k} {self.score} {passes}"


SHAPES = [
    Shape(65_536, 64, 2),
    Shape(65_536, 64, 2, backward=True),
    Shape(65_536, 8, 1),
    Shape(65_536, 256, 8),
    Shape(65_536, 256, 8, score="sigmoid"),
    Shape(1, 64, 2),
]


def forward(shape: Shape) -> Runs:
    logits = torch.randn(shape.rows, shape.experts)
    array = logits.numpy()

    def theirs() -> tuple[np.ndarray, np.ndarray]:
        scores = torch.softmax(logits, -1) if shape.score == "softmax" else torch.sigmoid(logits)
        weights, ids = torch.topk(scores, shape.k)
        return (weights / weights.sum(-1, keepdim=True)).numpy(), ids.numpy()

    return {
        "seqrec_fast": lambda: sf.expert_gate(array, shape.k, score=shape.score),
        "torch": theirs,
    }


def forward_backward(shape: Shape) -> Runs:
    logits = torch.randn(shape.rows, shape.experts, requires_grad=True)
    upstream = torch.randn(shape.rows, shape.k)

    def run(gate: Callable[[], torch.Tensor]) -> Callable[[], object]:
        def both() -> list[np.ndarray]:
            logits.grad = None
            weights = gate()
            (weights * upstream).sum().backward()
            return [weights.detach().numpy(), logits.grad.numpy()]

        return both

    def theirs() -> torch.Tensor:
        weights, _ = torch.topk(torch.softmax(logits, -1), shape.k)
        return weights / weights.sum(-1, keepdim=True)

    return {
        "seqrec_fast": run(lambda: SF.expert_gate(logits, shape.k)[0]),
        "torch": run(theirs),
    }


def runs_of(shape: Shape) -> Runs:
    torch.manual_seed(0)
    return forward_backward(shape) if shape.backward else forward(shape)


def check(runs: Runs) -> None:
    ours, theirs = (run() for run in runs.values())
    for a, b in zip(ours, theirs, strict=True):
        if a.dtype == np.int64:  # torch leaves the order of ties open
            assert (a == b).mean() > 0.9999
        else:
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gate(benchmark, shape):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    runs = runs_of(shape if benchmark.enabled else shape._replace(rows=min(shape.rows, 2048)))
    check(runs)
    benchmark.group = str(shape)
    benchmark.pedantic(runs["seqrec_fast"], rounds=5, warmup_rounds=1)
