"""
GRU, LSTM and RNN against torch.nn: inference, and forward plus backward, on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_rnn.py

The results are compared before anything is timed. `python -m bench.run` prints the ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch

import seqrec_fast as sf
import seqrec_fast.nn as snn

SEQ_LEN = 50


class Shape(NamedTuple):
    kind: str
    batch: int
    hidden: int

    def __str__(self) -> str:
        return f"{self.kind} T={SEQ_LEN} B={self.batch} I=H={self.hidden}"


INFERENCE = [Shape(kind, batch, 128) for kind in ("GRU", "LSTM", "RNN") for batch in (1, 32, 256)]
TRAINING = [Shape(kind, batch, 128) for kind in ("GRU", "LSTM", "RNN") for batch in (32, 256)]


def modules(shape: Shape) -> tuple[torch.nn.Module, torch.nn.Module]:
    torch.manual_seed(0)
    theirs = getattr(torch.nn, shape.kind)(shape.hidden, shape.hidden)
    ours = getattr(snn, shape.kind)(shape.hidden, shape.hidden)
    ours.load_state_dict(theirs.state_dict())
    return theirs, ours


def inference(shape: Shape) -> dict[str, Callable[[], np.ndarray]]:
    """The same sequences through each implementation; each returns the outputs."""
    theirs, ours = modules(shape)
    x = torch.randn(SEQ_LEN, shape.batch, shape.hidden)
    arrays = {name: p.detach().numpy() for name, p in theirs.named_parameters()}
    layer, x_array = getattr(sf, shape.kind).from_state_dict(arrays), x.numpy()

    def run(module: torch.nn.Module) -> Callable[[], np.ndarray]:
        def forward() -> np.ndarray:
            with torch.inference_mode():
                return module(x)[0].numpy()

        return forward

    return {
        "seqrec_fast": lambda: layer(x_array)[0],
        "seqrec_fast.nn": run(ours),
        "torch.nn": run(theirs),
    }


def training(shape: Shape) -> dict[str, Callable[[], np.ndarray]]:
    """Forward and backward; each returns the gradient of the input."""
    theirs, ours = modules(shape)
    values = torch.randn(SEQ_LEN, shape.batch, shape.hidden)

    def run(module: torch.nn.Module) -> Callable[[], np.ndarray]:
        x = values.clone().requires_grad_(True)

        def forward_backward() -> np.ndarray:
            x.grad = None
            module.zero_grad()
            module(x)[0].sum().backward()
            return x.grad.numpy()

        return forward_backward

    return {"seqrec_fast.nn": run(ours), "torch.nn": run(theirs)}


def check(runs: dict[str, Callable[[], np.ndarray]]) -> None:
    expected = runs["torch.nn"]()
    for run in runs.values():
        np.testing.assert_allclose(run(), expected, rtol=1e-4, atol=1e-4)


CASES = [(inference, shape) for shape in INFERENCE] + [(training, shape) for shape in TRAINING]


@pytest.mark.parametrize(("task", "shape"), CASES, ids=lambda v: getattr(v, "__name__", str(v)))
@pytest.mark.parametrize("competitor", ["seqrec_fast", "seqrec_fast.nn", "torch.nn"])
def test_rnn(benchmark, task, shape, competitor):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    runs = task(shape)
    check(runs)
    if competitor not in runs:
        pytest.skip("trains through torch only")
    benchmark.group = f"{task.__name__} {shape}"
    benchmark.extra_info.update(target=sf.active_target(), threads=1, dtype="float32")
    benchmark.pedantic(runs[competitor], rounds=60 if shape.batch == 1 else 15, warmup_rounds=2)
