"""
The theme experts of a ThemeMixture against one recurrent network over the same events.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_theme_mixture.py

`python -m bench.run theme_mixture` prints the ratios. Gate, dispatch, experts and combination,
forward and backward, and the same with the mutual information that the gate learns from; first it
is counted that the experts take each event k times. One thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

import seqrec_fast as sf
from seqrec_fast.data import simulate_hopping
from seqrec_fast.models import ThemeMixture
from seqrec_fast.models._theme_parts import session_position

Runs = dict[str, Callable[[], object]]


class Shape(NamedTuple):
    batch: int
    length: int
    hidden: int
    n_themes: int
    k: int = 1

    def __str__(self) -> str:
        return (
            f"theme experts B={self.batch} T={self.length} H={self.hidden} M={self.n_themes} "
            f"k={self.k}"
        )


SHAPES = [Shape(32, 1000, 64, 8), Shape(32, 1000, 128, 8), Shape(32, 1000, 64, 8, 2)]


def runs_of(shape: Shape) -> Runs:
    sessions = simulate_hopping(
        shape.batch, 512, shape.n_themes, length=(shape.length, shape.length), seed=0
    ).sessions
    offsets = torch.from_numpy(sessions.offsets)
    times = torch.from_numpy(sessions.times)
    position = session_position(offsets, times, 1800.0, 10, len(times))
    model = ThemeMixture(512, hidden_size=shape.hidden, n_themes=shape.n_themes, k=shape.k, seed=0)
    x = model.embedding(torch.from_numpy(sessions.items)).detach().requires_grad_()
    gradient = torch.randn(x.shape)
    assert steps(model, x, offsets, position) == shape.k * len(x)

    def run(forward: Callable[[], torch.Tensor], training: bool = False) -> Callable[[], object]:
        def forward_backward() -> None:
            model.train(training)
            x.grad = None
            model.zero_grad()
            outputs, gradients = [forward()], [gradient]
            if (loss := model.auxiliary_loss()) is not None:
                outputs.append(loss)
                gradients.append(torch.ones(()))
            torch.autograd.backward(outputs, gradients)

        return forward_backward

    def themes() -> torch.Tensor:
        return model.run_themes(x, offsets, position)[0]

    return {
        "one GRU": run(lambda: model.global_rnn(x, offsets=offsets)[0]),
        "theme experts": run(themes),
        "and loss of the gate": run(themes, training=True),
    }


def steps(
    model: ThemeMixture, x: torch.Tensor, offsets: torch.Tensor, position: torch.Tensor
) -> int:
    """Return how many events the experts take, all together."""
    taken = []
    hook = model.theme_rnn.register_forward_pre_hook(lambda _, inputs: taken.append(len(inputs[0])))
    model.run_themes(x, offsets, position)
    hook.remove()
    return sum(taken)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_theme_experts(benchmark, shape):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    if not benchmark.enabled:
        shape = shape._replace(batch=2, length=60)
    benchmark.group = str(shape)
    benchmark.pedantic(runs_of(shape)["theme experts"], rounds=3, warmup_rounds=1)
