"""
Draws of negatives, and losses against them, against NumPy and torch, on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_sampling.py

`python -m bench.run sampling` prints the ratios.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import seqrec_fast as sf
from seqrec_fast.data import AliasTable
from seqrec_fast.nn import functional as SF

Runs = dict[str, Callable[[], object]]


def draws(n_items: int, n: int = 2048) -> Runs:
    """Increasing items by popularity; checked by their frequencies."""
    rng = np.random.default_rng(0)
    popularity = rng.permutation(np.arange(1.0, n_items + 1) ** -0.4)
    popularity /= popularity.sum()
    table, cumulative = AliasTable(popularity), np.cumsum(popularity)
    weights = torch.from_numpy(popularity)
    half = popularity > np.median(popularity)
    runs: Runs = {
        "seqrec_fast": lambda: table.draw(n, int(rng.integers(2**63)), ordered=True),
        "searchsorted": lambda: np.searchsorted(cumulative, np.sort(rng.random(n))),
        "torch.multinomial": lambda: torch.multinomial(weights, n, replacement=True),
    }
    for name, run in runs.items():
        drawn = np.concatenate([np.asarray(run()) for _ in range(10)])
        assert abs(half[drawn].mean() - popularity[half].sum()) < 0.02, name
    return runs


def losses(rows: int, n_items: int, dim: int, sets: tuple[int, ...], *, sparse: bool) -> Runs:
    """Sampled softmax, forward and backward; checked against torch's gather and products."""
    torch.manual_seed(0)
    hidden = torch.randn(rows, dim, requires_grad=True)
    weight = (torch.randn(n_items, dim) * 0.1).requires_grad_()
    target, negatives = torch.randint(0, n_items, (rows,)), torch.randint(0, n_items, sets)

    def ours() -> torch.Tensor:
        return SF.sampled_softmax_loss(hidden, weight, target, negatives, sparse=sparse)

    def bfloat16() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return ours()

    def theirs() -> torch.Tensor:
        vectors = F.embedding(negatives, weight, sparse=sparse)
        among = "nsd" if len(sets) == 2 else "sd"
        scores = torch.einsum(f"nd,{among}->ns", hidden, vectors)
        scores = scores.masked_fill(negatives == target[:, None], -math.inf)
        own = (hidden * F.embedding(target, weight, sparse=sparse)).sum(1)
        return (torch.cat([own[:, None], scores], 1).logsumexp(1) - own).mean()

    def run(loss: Callable[[], torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
        def forward_backward() -> list[torch.Tensor]:
            hidden.grad = weight.grad = None
            value = loss()
            value.backward()
            assert hidden.grad is not None
            assert weight.grad is not None
            return [value.detach(), hidden.grad, weight.grad]

        return forward_backward

    compared = {"seqrec_fast": run(ours), "torch": run(theirs)}
    if len(sets) == 1:
        compared["seqrec_fast bfloat16"] = run(bfloat16)
    exact = compared["torch"]()
    for name, forward_backward in compared.items():
        for a, b in zip(forward_backward(), exact, strict=True):
            a, b = (t.to_dense() if t.is_sparse else t for t in (a, b))
            assert (a - b).norm() <= (2e-2 if "bfloat16" in name else 1e-4) * b.norm(), name
    return dict(compared)


CASES: dict[str, Callable[[], Runs]] = {
    **{f"2048 draws of {n}": lambda n=n: draws(n) for n in (43_000, 1_000_000)},
    "128 negatives per row, 512 x 100000 x 64": lambda: losses(
        512, 100_000, 64, (512, 128), sparse=False
    ),
    "the same, sparse gradient": lambda: losses(512, 100_000, 64, (512, 128), sparse=True),
    **{
        f"2048 negatives, {rows} x 43000 x {dim}, sparse": lambda rows=rows, dim=dim: losses(
            rows, 43_000, dim, (2048,), sparse=True
        )
        for rows in (80, 512, 4096)
        for dim in (64, 224)
    },
}


@pytest.mark.parametrize("name", list(CASES)[:4])
def test_sampling(benchmark, name):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    benchmark.group = name
    benchmark.pedantic(CASES[name]()["seqrec_fast"], rounds=3, warmup_rounds=1)
