"""
AUGRU in training beside a loop over steps, our GRU and oneDNN; recurrent experts; on one thread.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_augru.py

`python -m bench.run augru` prints the ratios.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

import seqrec_fast as sf
import seqrec_fast.nn as snn
from bench.peers import PeerMissingError
from bench.peers.onednn import OneDnnTraining

Runs = dict[str, Callable[[], list[torch.Tensor]]]
MODES = ("augru_paper", "augru_tf")
# Which of ours a peer equals, and in how many of output, gradient of input, that of attention. The
# gradients of lbr_augru of oneDNN 2023.2 are not those of its output: it scales the update gate
# in forward alone, and that of the attention has a factor z (1 - z) too much.
SAME = {
    "step loop": ("augru_paper", 3),
    "step loop of ports": ("augru_paper", 3),
    "oneDNN AUGRU": ("augru_tf", 1),
    "oneDNN GRU": ("our GRU", 2),
}


class Shape(NamedTuple):
    """Forward and backward of a layer whose input is as wide as its state."""

    steps: int
    batch: int
    hidden: int

    def __str__(self) -> str:
        return f"AUGRU T={self.steps} B={self.batch} H={self.hidden}"


class Experts(NamedTuple):
    """Forward and backward of experts that share the events of a ragged batch."""

    experts: int
    batch: int
    steps: int
    hidden: int

    def __str__(self) -> str:
        return f"ExpertGRU M={self.experts} B={self.batch} T={self.steps} H={self.hidden}"


# The second shape is that of the official DIEN: two embeddings of 18, histories of 100.
SHAPES = [Shape(1000, 64, 192), Shape(100, 128, 36)]
EXPERTS = [Experts(8, 64, 200, 64)]


def step_loop(
    module: snn.AUGRU, x: torch.Tensor, attention: torch.Tensor, assign: bool
) -> torch.Tensor:
    """
    Compute the states as the AUGRU cells of public PyTorch ports do, step after step.

    With `assign` as the DynamicGRU of several does: every step is written into its
    rows of one tensor, whose backward pass copies all of it per step.
    """
    states = torch.zeros_like(x)
    h = x.new_zeros(x.shape[1], module.hidden_size)
    outputs = []
    for x_t, a in zip(x.unbind(), attention.unsqueeze(-1).unbind(), strict=True):
        i_r, i_z, i_n = F.linear(x_t, module.weight_ih_l0, module.bias_ih_l0).chunk(3, -1)
        h_r, h_z, h_n = F.linear(h, module.weight_hh_l0, module.bias_hh_l0).chunk(3, -1)
        update = torch.sigmoid(i_z + h_z)
        candidate = torch.tanh(i_n + torch.sigmoid(i_r + h_r) * h_n)
        weight = a * (1 - update)
        h = (1 - weight) * h + weight * candidate
        if assign:
            states[len(outputs)] = h
        outputs.append(h)
    return states if assign else torch.stack(outputs)


def layers(shape: Shape) -> tuple[Runs, list[str]]:
    torch.manual_seed(0)
    x = torch.randn(shape.steps, shape.batch, shape.hidden, requires_grad=True)
    attention = torch.rand(shape.steps, shape.batch, requires_grad=True)
    dy = torch.randn(x.shape)
    modules = {mode: snn.AUGRU(shape.hidden, shape.hidden, mode=mode) for mode in MODES}
    gru = snn.GRU(shape.hidden, shape.hidden)
    for module in modules.values():
        module.load_state_dict(gru.state_dict())

    def run(
        module: torch.nn.Module, forward: Callable[[], torch.Tensor]
    ) -> Callable[[], list[torch.Tensor]]:
        def forward_backward() -> list[torch.Tensor]:
            x.grad = attention.grad = None
            module.zero_grad()
            y = forward()
            y.backward(dy)
            return [t for t in (y.detach(), x.grad, attention.grad) if t is not None]

        return forward_backward

    paper, tf = modules["augru_paper"], modules["augru_tf"]
    runs: Runs = {
        "augru_paper": run(paper, lambda: paper(x, attention)[0]),
        "augru_tf": run(tf, lambda: tf(x, attention)[0]),
        "our GRU": run(gru, lambda: gru(x)[0]),
        "step loop": run(paper, lambda: step_loop(paper, x, attention, False)),
        "step loop of ports": run(paper, lambda: step_loop(paper, x, attention, True)),
    }
    try:
        runs["oneDNN AUGRU"] = OneDnnTraining(gru, x, attention, dy)
        runs["oneDNN GRU"] = OneDnnTraining(gru, x, None, dy)
    except PeerMissingError as error:
        return runs, [f"{shape}: oneDNN left out, {error}"]
    return runs, []


def check(runs: Runs) -> None:
    for peer, (ours, count) in SAME.items():
        if peer in runs:
            for a, b in zip(runs[peer]()[:count], runs[ours]()[:count], strict=True):
                assert (a - b).norm() <= 1e-4 * b.norm(), peer


def experts(shape: Experts) -> Runs:
    torch.manual_seed(0)
    together = snn.ExpertGRU(shape.experts, shape.hidden, shape.hidden)
    ours, theirs = (
        [kind(shape.hidden, shape.hidden) for _ in range(shape.experts)]
        for kind in (snn.GRU, torch.nn.GRU)
    )
    for m, layers_of_m in enumerate(zip(ours, theirs, strict=True)):
        for layer in layers_of_m:
            layer.load_state_dict({name: p[m] for name, p in together.state_dict().items()})
    # Every event goes to one expert.
    chosen = torch.randint(0, shape.experts, (shape.batch, shape.steps))
    lengths = torch.stack([(chosen == m).sum(1) for m in range(shape.experts)])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.flatten().cumsum(0)])
    x = torch.randn(int(offsets[-1]), shape.hidden, requires_grad=True)
    bounds = offsets[:: shape.batch].tolist()

    def run(forward: Callable[[], torch.Tensor]) -> Callable[[], list[torch.Tensor]]:
        def forward_backward() -> list[torch.Tensor]:
            x.grad = None
            y = forward()
            y.square().sum().backward()
            assert x.grad is not None
            return [y.detach(), x.grad]

        return forward_backward

    def one_by_one() -> torch.Tensor:
        parts = []
        for m, layer in enumerate(ours):
            own = offsets[m * shape.batch : (m + 1) * shape.batch + 1] - bounds[m]
            parts.append(layer(x[bounds[m] : bounds[m + 1]], offsets=own)[0])
        return torch.cat(parts)

    def padded() -> torch.Tensor:
        parts = []
        for m, layer in enumerate(theirs):
            rows = x[bounds[m] : bounds[m + 1]].split(lengths[m].tolist())
            y = layer(torch.nn.utils.rnn.pad_sequence(rows))[0]
            parts += [y[:n, b] for b, n in enumerate(lengths[m].tolist())]
        return torch.cat(parts)

    return {
        "seqrec_fast": run(lambda: together(x, offsets=offsets)[0]),
        "our GRU, one by one": run(one_by_one),
        "torch GRU, padded": run(padded),
    }


def check_experts(runs: Runs) -> None:
    results = [run() for run in runs.values()]
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert (a - b).norm() <= 1e-5 * b.norm()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_layers(benchmark, shape):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    small = shape._replace(steps=shape.steps // 20)
    runs, _ = layers(small if not benchmark.enabled else shape)
    check(runs)
    benchmark.group = str(shape)
    benchmark.pedantic(runs["augru_paper"], rounds=3, warmup_rounds=1)


@pytest.mark.parametrize("shape", EXPERTS, ids=str)
def test_experts(benchmark, shape):
    torch.set_num_threads(1)
    sf.set_num_threads(1)
    small = shape._replace(steps=shape.steps // 20)
    runs = experts(small if not benchmark.enabled else shape)
    check_experts(runs)
    benchmark.group = str(shape)
    benchmark.pedantic(runs["seqrec_fast"], rounds=3, warmup_rounds=1)
