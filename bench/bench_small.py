"""
Small calls through PyTorch, forward and forward + backward, against its own, on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_small.py

What is around the kernels decides there. `python -m bench.run small` prints the ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import seqrec_fast as sf
from seqrec_fast import nn as fast
from seqrec_fast.nn import functional as SF

Runs = dict[str, Callable[[], list[Tensor]]]
#: Ours and theirs: what is called, and the tensors that gradients are of.
Side = tuple[Callable[[], Tensor], list[Tensor]]
Pair = tuple[Side, Side]


def layer(kind: str, steps: int, batch: int, units: int) -> Pair:
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(units, units)
    ours = getattr(fast, kind)(units, units)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(steps, batch, units, requires_grad=True)
    return (
        (lambda: ours(x)[0], [x, *ours.parameters()]),
        (lambda: theirs(x)[0], [x, *theirs.parameters()]),
    )


def cell(kind: str, batch: int, units: int) -> Pair:
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(units, units)
    ours = getattr(fast, kind)(units, units)
    ours.load_state_dict(theirs.state_dict())
    x, h = torch.randn(batch, units, requires_grad=True), torch.randn(batch, units)
    state: Any = (h, h) if kind == "LSTMCell" else h

    def first(found: Any) -> Tensor:
        state: Tensor = found[0] if kind == "LSTMCell" else found
        return state

    return (
        (lambda: first(ours(x, state)), [x, *ours.parameters()]),
        (lambda: first(theirs(x, state)), [x, *theirs.parameters()]),
    )


def gate(rows: int, experts: int, k: int) -> Pair:
    torch.manual_seed(0)
    logits = torch.randn(rows, experts, requires_grad=True)

    def theirs() -> Tensor:
        weights = torch.topk(torch.softmax(logits, -1), k).values
        return weights / weights.sum(-1, keepdim=True)

    return (lambda: SF.expert_gate(logits, k)[0], [logits]), (theirs, [logits])


def cross_entropy(rows: int, items: int, dim: int) -> Pair:
    torch.manual_seed(0)
    hidden = torch.randn(rows, dim, requires_grad=True)
    weight = torch.randn(items, dim, requires_grad=True)
    target = torch.randint(items, (rows,))
    return (
        (lambda: SF.linear_cross_entropy(hidden, weight, target), [hidden, weight]),
        (lambda: F.cross_entropy(hidden @ weight.T, target), [hidden, weight]),
    )


def segment_mean(rows: int, segments: int, dim: int) -> Pair:
    torch.manual_seed(0)
    values = torch.randn(rows, dim, requires_grad=True)
    offsets = torch.linspace(0, rows, segments + 1).long()
    return (
        (lambda: SF.segment_mean(values, offsets), [values]),
        (lambda: torch.segment_reduce(values, "mean", offsets=offsets, axis=0), [values]),
    )


def topk(queries: int, items: int, dim: int) -> Pair:
    torch.manual_seed(0)
    batch = torch.randn(queries, dim, requires_grad=True)
    table = torch.randn(items, dim)
    return (
        (lambda: SF.topk(batch, table, 10)[0], [batch]),
        (lambda: torch.topk(batch @ table.T, 10).values, [batch]),
    )


PAIRS: dict[str, Callable[[], Pair]] = {
    **{
        f"{kind} T={steps} B={batch} H={units}": (
            lambda kind=kind, steps=steps, batch=batch, units=units: layer(
                kind, steps, batch, units
            )
        )
        for kind in ("GRU", "LSTM", "RNN")
        for steps, batch, units in ((1, 1, 64), (1, 32, 128), (1, 80, 224), (10, 1, 64))
    },
    **{
        f"{kind} B={batch} H=128": lambda kind=kind, batch=batch: cell(kind, batch, 128)
        for kind in ("GRUCell", "LSTMCell")
        for batch in (1, 256)
    },
    "gate 32 x 8, k=2": lambda: gate(32, 8, 2),
    "gate 1024 x 8, k=2": lambda: gate(1024, 8, 2),
    "cross-entropy 32 x 1000 x 64": lambda: cross_entropy(32, 1000, 64),
    "cross-entropy 128 x 5000 x 64": lambda: cross_entropy(128, 5000, 64),
    "segment mean 50 x 32 to 5": lambda: segment_mean(50, 5, 32),
    "segment mean 2000 x 64 to 64": lambda: segment_mean(2000, 64, 64),
    "topk 1 of 1000 x 64": lambda: topk(1, 1000, 64),
    "topk 32 of 1000 x 64": lambda: topk(32, 1000, 64),
}


def timed(run: Callable[[], Tensor], inputs: list[Tensor], backward: bool) -> Any:
    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [run()]

    def both() -> list[Tensor]:
        out = run()
        return [out.detach(), *torch.autograd.grad(out.sum(), inputs)]

    return both if backward else forward


def runs_of(name: str, backward: bool) -> Runs:
    ours, theirs = PAIRS[name]()
    return {"seqrec_fast": timed(*ours, backward), "torch": timed(*theirs, backward)}


def check(runs: Runs) -> None:
    for ours, theirs in zip(*(run() for run in runs.values()), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "forward+backward"])
@pytest.mark.parametrize("name", PAIRS)
def test_small(benchmark, name, backward):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    runs = runs_of(name, backward)
    check(runs)
    benchmark.group = name
    benchmark.pedantic(runs["seqrec_fast"], rounds=20, warmup_rounds=2)
