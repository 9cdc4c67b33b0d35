"""
DIN's attention and DIEN's two recurrent layers against padded PyTorch, forward and backward.

    OMP_NUM_THREADS=1 pytest -o python_files='bench_*.py' bench/bench_click_through.py

`python -m bench.run click_through` prints the ratios. The competitors do as public PyTorch code of
these models does: histories are padded; DIN's MLP gets the concatenated four-fold rows; DIEN's
AUGRU is a Python loop over steps. One thread.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence

import seqrec_fast as sf
from seqrec_fast.models import DIEN
from seqrec_fast.nn import AttentionPooling

Runs = dict[str, Callable[[], torch.Tensor]]


class Shape(NamedTuple):
    """Histories of 1 to `longest` events, all lengths equally likely."""

    batch: int
    longest: int
    width: int

    def __str__(self) -> str:
        return f"B={self.batch} T=1..{self.longest} D={self.width}"


class Inputs:
    """Targets and histories, ragged and padded, with gradients."""

    def __init__(self, shape: Shape) -> None:
        torch.manual_seed(0)
        lengths = torch.randint(1, shape.longest + 1, (shape.batch,))
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
        events = int(self.offsets[-1])
        self.query = torch.randn(shape.batch, shape.width, requires_grad=True)
        self.events = torch.randn(events, shape.width, requires_grad=True)
        bounds = pairwise(self.offsets.tolist())
        places = pad_sequence([torch.arange(b, e) for b, e in bounds], True, -1)
        self.mask = places >= 0
        self.places = places.clamp(min=0)

    def padded(self) -> torch.Tensor:
        return self.events[self.places] * self.mask[:, :, None]


def forward_backward(inputs: Inputs, forward: Callable[[], torch.Tensor]) -> torch.Tensor:
    inputs.query.grad = inputs.events.grad = None
    result = forward()
    result.sum().backward()
    assert inputs.events.grad is not None
    return torch.cat([result.detach().flatten(), inputs.events.grad.flatten()])


def din(shape: Shape) -> Runs:
    inputs, pool = Inputs(shape), AttentionPooling(shape.width, (64, 32))

    def padded() -> torch.Tensor:
        e = inputs.padded()
        q = inputs.query[:, None].expand_as(e)
        x = torch.cat([q, e, q - e, q * e], 2)
        scores = pool.mlp(x.flatten(0, 1)).view(inputs.mask.shape) * inputs.mask
        return (scores[:, :, None] * e).sum(1)

    return {
        "seqrec_fast": lambda: forward_backward(
            inputs, lambda: pool(inputs.query, inputs.events, inputs.offsets)
        ),
        "torch, padded": lambda: forward_backward(inputs, padded),
    }


def dien(shape: Shape) -> Runs:
    inputs = Inputs(shape)
    model = DIEN(1, embedding_dim=shape.width, hidden_size=shape.width, seed=0).eval()
    gru = torch.nn.GRU(shape.width, shape.width, batch_first=True)
    gru.load_state_dict(model.extractor.state_dict())
    second = model.evolution

    def loop() -> torch.Tensor:
        states = gru(inputs.padded())[0]
        wanted = inputs.query @ model.attention.weight.t()
        scores = (states @ wanted[:, :, None]).squeeze(2)
        attention = scores.masked_fill(~inputs.mask, -torch.inf).softmax(1)
        x_gates = torch.nn.functional.linear(states, second.weight_ih_l0, second.bias_ih_l0)
        h = torch.zeros_like(inputs.query)
        for t in range(states.shape[1]):
            h_gates = torch.nn.functional.linear(h, second.weight_hh_l0, second.bias_hh_l0)
            x_r, x_z, x_n = x_gates[:, t].chunk(3, 1)
            h_r, h_z, h_n = h_gates.chunk(3, 1)
            n = torch.tanh(x_n + torch.sigmoid(x_r + h_r) * h_n)
            keep = (1 - attention[:, t, None]) * torch.sigmoid(x_z + h_z)
            h = torch.where(inputs.mask[:, t, None], keep * h + (1 - keep) * n, h)
        return h

    items = torch.zeros(len(inputs.events), dtype=torch.int64)
    return {
        "seqrec_fast": lambda: forward_backward(
            inputs,
            lambda: model.interest(inputs.query, inputs.events, inputs.offsets, items),
        ),
        "torch, padded, loop": lambda: forward_backward(inputs, loop),
    }


def check(runs: Runs) -> None:
    ours, theirs = (run() for run in runs.values())
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


CASES = [(din, Shape(256, 100, 64)), (dien, Shape(256, 100, 64)), (dien, Shape(32, 1000, 64))]


@pytest.mark.parametrize(
    ("make", "shape"), CASES, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_click_through(benchmark, make, shape):
    sf.set_num_threads(1)
    runs = make(shape)
    check(runs)
    benchmark(runs["seqrec_fast"])
