"""
Losses against torch, and GRU4Rec's training step against the official code, on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_training.py

`python -m bench.run training` prints the ratios. GRU4REC_OFFICIAL is the folder of a checkout of
the official PyTorch code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

import seqrec_fast as sf
from bench.peers import PeerMissingError
from bench.peers.gru4rec import OfficialGru4Rec
from seqrec_fast.data import simulate
from seqrec_fast.models import GRU4Rec
from seqrec_fast.nn import functional as SF
from seqrec_fast.training import Trainer, TrainingOptions

Runs = dict[str, Callable[[], object]]


class Catalogue(NamedTuple):
    """Full cross-entropy, forward and backward."""

    rows: int
    n_items: int
    dim: int

    def __str__(self) -> str:
        return f"cross-entropy {self.rows} x {self.n_items} x {self.dim}"


class Step(NamedTuple):
    """A mini-batch of GRU4Rec: one event of each lane."""

    batch: int
    hidden: int
    loss: str
    n_sample: int = 2048

    def __str__(self) -> str:
        return f"GRU4Rec step B={self.batch} H={self.hidden} {self.loss} {self.n_sample}"


LOSSES = [Catalogue(4096, 100_000, 64)]
STEPS = [Step(80, 224, "bpr-max"), Step(32, 100, "bpr-max"), Step(32, 100, "cross-entropy")]


def losses(shape: Catalogue) -> Runs:
    torch.manual_seed(0)
    hidden = torch.randn(shape.rows, shape.dim, requires_grad=True)
    weight = (torch.randn(shape.n_items, shape.dim) * 0.1).requires_grad_()
    target = torch.randint(0, shape.n_items, (shape.rows,))

    def run(loss: Callable[[], torch.Tensor]) -> Callable[[], object]:
        def forward_backward() -> list[torch.Tensor]:
            hidden.grad = weight.grad = None
            value = loss()
            value.backward()
            return [value.detach(), hidden.grad, weight.grad]

        return forward_backward

    def bfloat16() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return SF.linear_cross_entropy(hidden, weight, target)

    return {
        "seqrec_fast": run(lambda: SF.linear_cross_entropy(hidden, weight, target)),
        "seqrec_fast bfloat16": run(bfloat16),
        "torch": run(lambda: F.cross_entropy(hidden @ weight.T, target)),
    }


def check(runs: Runs) -> None:
    results = {name: run() for name, run in runs.items()}
    for name, values in results.items():
        for ours, theirs in zip(values, results["torch"], strict=True):
            allowed = 1e-2 if "bfloat16" in name else 1e-4
            assert (ours - theirs).norm() <= allowed * theirs.norm(), name


class Epoch:
    """One epoch of ours; `seconds` is the training alone."""

    def __init__(self, shape: Step, n_items: int, sessions) -> None:
        self._model = GRU4Rec(
            n_items,
            embedding_dim=shape.hidden,
            hidden_size=shape.hidden,
            dropout_embedding=0.3,
            dropout_hidden=0.05,
            seed=0,
        )
        self._sessions = sessions
        self._options = TrainingOptions(
            epochs=1,
            batch_size=shape.batch,
            batching="session-parallel",
            loss="bpr-max" if shape.loss == "bpr-max" else "sampled",
            n_sample=shape.n_sample,
            optimizer="adagrad",
            lr=0.05,
            momentum=0.3,
            alpha=0.3,
            collisions="own",
            carry_dropout=True,
            lr_decay=False,
        )
        self.seconds = 0.0

    def __call__(self) -> None:
        self.seconds = Trainer(self._model, self._options).fit(self._sessions).epochs[0].seconds


def steps(shape: Step) -> tuple[Runs, list[str]]:
    """An epoch of a simulated log: as many mini-batches for each."""
    sessions = simulate(60 * shape.batch, n_items=20_000, seed=0).sessions
    runs: Runs = {"seqrec_fast": Epoch(shape, 20_000, sessions)}
    options = {
        "layers": [shape.hidden],
        "loss": shape.loss,
        "batch_size": shape.batch,
        "dropout_p_embed": 0.3,
        "dropout_p_hidden": 0.05,
        "learning_rate": 0.05,
        "momentum": 0.3,
        "sample_alpha": 0.3,
        "n_sample": shape.n_sample,
        "constrained_embedding": True,
        "elu_param": 0.5 if shape.loss == "bpr-max" else 0,
    }
    try:
        runs["official GRU4Rec"] = OfficialGru4Rec(sessions, options)
    except PeerMissingError as error:
        return runs, [f"{shape}: official GRU4Rec left out, {error}"]
    return runs, []


@pytest.mark.parametrize("shape", LOSSES, ids=str)
def test_losses(benchmark, shape):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    small = shape._replace(rows=shape.rows // 32, n_items=shape.n_items // 32)
    runs = losses(small if not benchmark.enabled else shape)
    check(runs)
    benchmark.group = str(shape)
    benchmark.pedantic(runs["seqrec_fast"], rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("shape", STEPS, ids=str)
def test_steps(benchmark, shape):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    benchmark.group = str(shape)
    benchmark.pedantic(steps(shape)[0]["seqrec_fast"], rounds=1)
