"""
Dispatch, combine and experts against their PyTorch versions, on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_dispatch.py

`python -m bench.run dispatch` prints the ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import seqrec_fast as sf
from seqrec_fast.nn import functional as SF

Runs = dict[str, Callable[[], object]]


class RoundTrip(NamedTuple):
    """Events to their experts and back, weighted both ways if there are several choices."""

    batch: int
    length: int
    dim: int
    experts: int
    k: int
    backward: bool

    def __str__(self) -> str:
        passes = "forward+backward" if self.backward else "forward"
        return (
            f"dispatch+combine B={self.batch} L={self.length} D={self.dim} M={self.experts} "
            f"k={self.k} {passes}"
        )


class Experts(NamedTuple):
    """Feed-forward experts over rows that are sorted by expert."""

    rows: int
    n_in: int
    n_out: int
    experts: int
    backward: bool

    def __str__(self) -> str:
        passes = "forward+backward" if self.backward else "forward"
        return f"grouped linear N={self.rows} {self.n_in}x{self.n_out} M={self.experts} {passes}"


class Mixture(NamedTuple):
    """Several softmax gates over dense experts."""

    rows: int
    dim: int
    experts: int
    gates: int
    backward: bool

    def __str__(self) -> str:
        passes = "forward+backward" if self.backward else "forward"
        return (
            f"multi-gate mixture N={self.rows} D={self.dim} E={self.experts} G={self.gates} "
            f"{passes}"
        )


ROUND_TRIPS = [
    RoundTrip(64, 1000, dim, 8, k, backward)
    for dim in (64, 192)
    for k in (1, 2)
    for backward in (False, True)
]
EXPERTS = [
    Experts(16_384, 64, 256, 8, False),
    Experts(16_384, 64, 256, 8, True),
    Experts(2048, 64, 64, 64, False),
    Experts(2048, 64, 64, 64, True),
]
MIXTURES = [
    Mixture(4096, 64, 8, 3, False),
    Mixture(4096, 64, 8, 3, True),
    Mixture(4096, 256, 4, 2, True),
]


def sorted_dispatch(
    values: Tensor, offsets: Tensor, ids: Tensor, experts: int, weights: Tensor | None
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Sort (expert, sequence), then gather."""
    batch, k = offsets.numel() - 1, ids.shape[1]
    sequence = torch.repeat_interleave(torch.arange(batch), offsets.diff())
    keys = (ids * batch + sequence[:, None]).reshape(-1)
    slot = torch.argsort(keys, stable=True)
    ends = torch.bincount(keys, minlength=experts * batch).cumsum(0)
    rows = values.index_select(0, slot // k)
    if weights is not None:
        rows = rows * weights.reshape(-1).index_select(0, slot)[:, None]
    return rows, (slot, ends)


def scattered_back(rows: Tensor, slot: Tensor, n: int, k: int, weights: Tensor | None) -> Tensor:
    if weights is not None:
        rows = rows * weights.reshape(-1).index_select(0, slot)[:, None]
    return torch.zeros(n, rows.shape[1]).index_add(0, slot // k, rows)


def round_trips(shape: RoundTrip) -> Runs:
    torch.manual_seed(0)
    n = shape.batch * shape.length
    values = torch.randn(n, shape.dim, requires_grad=shape.backward)
    offsets = torch.arange(0, n + 1, shape.length)
    gates = torch.rand(n, shape.experts).topk(shape.k)
    ids = gates.indices
    weights = gates.values.clone().requires_grad_(shape.backward) if shape.k > 1 else None
    inputs = [values] if weights is None else [values, weights]
    seed = torch.randn(n, shape.dim)

    def ours() -> Tensor:
        rows, plan = SF.dispatch_by_expert(values, offsets, ids, shape.experts, weights=weights)
        return SF.combine_by_expert(rows, plan, weights)

    def theirs() -> Tensor:
        rows, (slot, _) = sorted_dispatch(values, offsets, ids, shape.experts, weights)
        return scattered_back(rows, slot, n, shape.k, weights)

    return {
        "seqrec_fast": timed(ours, inputs, seed, shape.backward),
        "torch": timed(theirs, inputs, seed, shape.backward),
    }


def timed(
    run: Callable[[], Tensor], inputs: Sequence[Tensor], seed: Tensor, backward: bool
) -> Callable[[], list[Tensor]]:
    def forward() -> list[Tensor]:
        with torch.no_grad():
            return [run()]

    def both() -> list[Tensor]:
        out = run()
        return [out.detach(), *torch.autograd.grad(out, inputs, seed)]

    return both if backward else forward


def experts(shape: Experts) -> Runs:
    torch.manual_seed(0)
    x = torch.randn(shape.rows, shape.n_in)
    weight = torch.randn(shape.experts, shape.n_out, shape.n_in) / shape.n_in**0.5
    bias = torch.randn(shape.experts, shape.n_out)
    counts = torch.bincount(torch.randint(0, shape.experts, (shape.rows,)))
    offsets = F.pad(counts.cumsum(0), (1, 0))
    inputs = [t.requires_grad_(shape.backward) for t in (x, weight, bias)]
    seed = torch.randn(shape.rows, shape.n_out)

    def loop() -> Tensor:
        bounds = offsets.tolist()
        parts = [F.linear(x[a:b], weight[m], bias[m]) for m, (a, b) in enumerate(pairwise(bounds))]
        return torch.cat(parts)

    return {
        "seqrec_fast": timed(
            lambda: SF.grouped_linear(x, weight, bias, offsets), inputs, seed, shape.backward
        ),
        "torch loop": timed(loop, inputs, seed, shape.backward),
    }


def mixtures(shape: Mixture) -> Runs:
    torch.manual_seed(0)
    outputs = torch.randn(shape.experts, shape.rows, shape.dim)
    logits = torch.randn(shape.gates, shape.rows, shape.experts)
    inputs = [t.requires_grad_(shape.backward) for t in (outputs, logits)]
    seed = torch.randn(shape.gates, shape.rows, shape.dim)
    return {
        "seqrec_fast": timed(
            lambda: SF.multi_gate_mixture(outputs, logits), inputs, seed, shape.backward
        ),
        "torch einsum": timed(
            lambda: torch.einsum("gne,end->gnd", logits.softmax(-1), outputs),
            inputs,
            seed,
            shape.backward,
        ),
    }


def check(runs: Runs) -> None:
    first, second = (run() for run in runs.values())
    for ours, theirs in zip(first, second, strict=True):  # type: ignore[call-overload]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


CASES: list[tuple[Callable[..., Runs], RoundTrip | Experts | Mixture]] = [
    *((round_trips, shape) for shape in ROUND_TRIPS),
    *((experts, shape) for shape in EXPERTS),
    *((mixtures, shape) for shape in MIXTURES),
]


@pytest.mark.parametrize(
    ("make", "shape"), CASES, ids=lambda part: getattr(part, "__name__", str(part))
)
def test_dispatch(benchmark, make, shape):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    runs = make(shape)
    check(runs)
    benchmark.group = str(shape)
    benchmark.pedantic(runs["seqrec_fast"], rounds=3, warmup_rounds=1)
