"""Operators on a GPU against the same ones on the CPU. Run by `make cuda-check`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seqrec_fast import nn
from seqrec_fast.nn import functional as F
from seqrec_fast.nn._devices import DEVICES

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(
        "CUDA" not in DEVICES or not torch.cuda.is_available(),
        reason="needs a GPU and a build with SEQREC_CUDA=ON",
    ),
]
LENGTHS = torch.tensor([3, 0, 9, 1, 30, 7, 7, 2])
OFFSETS = torch.cat([torch.zeros(1, dtype=torch.long), LENGTHS.cumsum(0)])
EVENTS = int(LENGTHS.sum())
dtypes = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def assert_same(
    run: Callable[..., tuple[Tensor, ...]],
    *inputs: Tensor,
    module: torch.nn.Module | None = None,
    tolerance: float | None = None,
) -> None:
    """Compare outputs and gradients of inputs and parameters; twice on the GPU: the same bits."""
    results = []
    for device in ("cpu", "cuda", "cuda"):
        here = [t.detach().to(device).requires_grad_(t.is_floating_point()) for t in inputs]
        if module is not None:
            module.to(device).zero_grad()
        outputs = run(*here)
        leaves = [t for t in here if t.requires_grad]
        leaves += [] if module is None else list(module.parameters())
        loss = sum((o * torch.linspace(-1, 1, o.numel(), device=device, dtype=o.dtype)
                    .reshape(o.shape)).sum() for o in outputs if o.is_floating_point())  # fmt: skip
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        results.append([t.detach().cpu() for t in (*outputs, *gradients) if t is not None])
    for cpu, first, second in zip(*results, strict=True):
        assert torch.equal(first, second)
        if tolerance is None:
            torch.testing.assert_close(first, cpu, rtol=1e-4, atol=1e-5)
        else:
            torch.testing.assert_close(first, cpu, rtol=tolerance, atol=tolerance)


@dtypes
@pytest.mark.parametrize("experts", [1, 3, 64, 257])
@pytest.mark.parametrize("score", ["softmax", "sigmoid", "sqrt_softplus"])
def test_expert_gate(dtype, experts, score) -> None:
    logits = torch.randn(50, experts, dtype=dtype)
    assert_same(lambda x: F.expert_gate(x, min(experts, 4), score=score), logits)


@dtypes
@pytest.mark.parametrize("hidden", [1, 33, 128, 129, 256])
@pytest.mark.parametrize("cell", ["GRU", "LSTM", "RNN"])
def test_recurrent_layers(dtype, hidden, cell) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, cell)(17, hidden).to(dtype)
    ragged = torch.randn(EVENTS, 17, dtype=dtype)
    assert_same(
        lambda x: (layer(x, offsets=OFFSETS.to(x.device))[0],), ragged, module=layer,
    )  # fmt: skip
    assert_same(lambda x: (layer(x)[0],), torch.randn(12, 5, 17, dtype=dtype), module=layer)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("hidden", [33, 128, 129, 256, 512])
@pytest.mark.parametrize("cell", ["GRU", "LSTM", "RNN"])
def test_16_bit_layers_and_autocast(dtype, hidden, cell) -> None:
    torch.manual_seed(0)
    layer = getattr(nn, cell)(17, hidden)
    x = torch.randn(EVENTS, 17)
    expected = layer(x, offsets=OFFSETS)[0]
    layer.cuda()
    offsets = OFFSETS.cuda()
    with torch.autocast("cuda", dtype):
        under_autocast = layer(x.cuda(), offsets=offsets)[0]
    layer.to(dtype)
    values = x.to("cuda", dtype).requires_grad_()
    y = layer(values, offsets=offsets)[0]
    assert y.dtype == under_autocast.dtype == dtype
    assert torch.equal(y, under_autocast)
    torch.testing.assert_close(y.float().cpu(), expected, rtol=0.05, atol=0.05)
    first, second = (torch.autograd.grad(y.sum(), [values, *layer.parameters()], retain_graph=True)
                     for _ in range(2))  # fmt: skip
    for a, b in zip(first, second, strict=True):
        assert a.isfinite().all()
        assert torch.equal(a, b)


@dtypes
@pytest.mark.parametrize("noise", [(0.3, 0.0), (0.0, 0.2), (0.3, 0.2)])
@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "lstm", "rnn_tanh"])
def test_noise_of_recurrent_layers(dtype, noise, cell) -> None:
    torch.manual_seed(0)
    gates = {"lstm": 4, "rnn_tanh": 1}.get(cell, 3)
    c_0 = [torch.randn(8, 40, dtype=dtype)] if cell == "lstm" else []

    def run(x: Tensor, h_0: Tensor, w_ih: Tensor, w_hh: Tensor, *c: Tensor) -> tuple[Tensor, ...]:
        return torch.ops.seqrec_fast.rnn_forward(
            cell, x, h_0, c[0] if c else None, w_ih, w_hh, None, None, None,
            OFFSETS.to(x.device), None, None, False, False, True,
            "full", *noise, torch.tensor(7), 1,
        )[:2]  # fmt: skip

    assert_same(
        run, torch.randn(EVENTS, 17, dtype=dtype), torch.randn(8, 40, dtype=dtype),
        torch.randn(gates * 40, 17, dtype=dtype) / 5, torch.randn(gates * 40, 40, dtype=dtype) / 7,
        *c_0,
    )  # fmt: skip


@dtypes
def test_projection(dtype) -> None:
    torch.manual_seed(0)
    layer = nn.LSTM(17, 64, proj_size=20, num_layers=2).to(dtype)
    assert_same(
        lambda x: (layer(x, offsets=OFFSETS.to(x.device))[0],),
        torch.randn(EVENTS, 17, dtype=dtype), module=layer,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["augru_paper", "augru_tf", "agru"])
def test_augru(mode) -> None:
    torch.manual_seed(0)
    layer = nn.AUGRU(16, 40, mode=mode)
    assert_same(
        lambda x, a: (layer(x, a, offsets=OFFSETS.to(x.device))[0],),
        torch.randn(EVENTS, 16), torch.rand(EVENTS), module=layer,
    )  # fmt: skip


@dtypes
@pytest.mark.parametrize("capacity", [None, 2])
def test_dispatch_and_combine(dtype, capacity) -> None:
    ids = torch.stack([torch.randperm(6)[:2] for _ in range(EVENTS)])

    def run(x: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        rows, dispatch = F.dispatch_by_expert(
            x, OFFSETS.to(x.device), ids.to(x.device), 6, capacity=capacity
        )
        return rows, F.combine_by_expert(rows, dispatch, weights), dispatch.offsets

    assert_same(run, torch.randn(EVENTS, 13, dtype=dtype), torch.rand(EVENTS, 2, dtype=dtype))


@pytest.mark.parametrize("items", [1, 100, 5000])
def test_linear_cross_entropy(items) -> None:
    target = torch.randint(items, (70,))
    assert_same(
        lambda h, w, b: (F.linear_cross_entropy(h, w, target.to(h.device), b),),
        torch.randn(70, 24), torch.randn(items, 24), torch.randn(items),
    )  # fmt: skip


def test_layer_in_a_graph() -> None:
    layer = nn.GRU(32, 64).cuda()
    x = torch.randn(20, 8, 32, device="cuda")
    with torch.no_grad():
        layer(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = layer(x)[0]
        x.copy_(torch.randn_like(x))
        graph.replay()
        assert torch.equal(y, layer(x)[0])


def test_a_graph_draws_noise_anew() -> None:
    layer = nn.GRU(32, 64, recurrent_dropout=0.3, zoneout=0.2, variational_dropout=0.1).cuda()
    x = torch.randn(20, 8, 32, device="cuda")
    with torch.no_grad():
        layer(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = layer(x)[0]
        graph.replay()
        first = y.clone()
        graph.replay()
    assert not torch.equal(first, y)
