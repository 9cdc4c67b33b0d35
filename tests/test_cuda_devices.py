"""Operators on a GPU against the same ones on the CPU. Run by `make cuda-check`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from seqrec_fast import models, nn
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
@pytest.mark.parametrize("hidden", [1, 33, 128, 129, 256, 1100])
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
@pytest.mark.parametrize("hidden", [33, 128, 129, 256, 512, 1400])
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


@pytest.mark.parametrize("hidden", [20, 128, 200])
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "AUGRU"])
def test_recurrent_experts(kind, hidden) -> None:
    torch.manual_seed(0)
    experts = getattr(nn, f"Expert{kind}")(4, 16, hidden)
    scores = (torch.rand(EVENTS),) if kind == "AUGRU" else ()
    assert_same(
        lambda *x: (experts(*x, offsets=OFFSETS.to(x[0].device))[0],),
        torch.randn(EVENTS, 16), *scores, module=experts, tolerance=1e-4,
    )  # fmt: skip


@dtypes
@pytest.mark.parametrize("lengths", [[5, 0, 97, 1, 0], [5000, 3, 1200], [40] * 300])
def test_grouped_linear(dtype, lengths) -> None:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    groups, rows = len(lengths), sum(lengths)
    shapes = (rows, 24), (groups, 70, 24), (groups, 70)
    assert_same(
        lambda x, w, b: (F.grouped_linear(x, w, b, offsets.to(x.device)),),
        *(torch.randn(shape, dtype=dtype) for shape in shapes), tolerance=1e-3,
    )  # fmt: skip


@dtypes
@pytest.mark.parametrize("shape", [(4, 2, 33, 7), (17, 9, 40, 64)])
def test_multi_gate_mixture(dtype, shape) -> None:
    experts, gates, rows, dim = shape
    logits = torch.randn(gates, rows, experts, dtype=dtype)
    logits[0, 0] = logits[0, 1, 0] = -torch.inf
    assert_same(
        lambda x, z: (F.multi_gate_mixture(x, z),),
        torch.randn(experts, rows, dim, dtype=dtype), logits,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [{"window": 3}, {"rule": "gap", "gap": 2.5}, {"rule": "top_gaps", "count": 4}],
    ids=str,
)
def test_session_segments(options) -> None:
    times = torch.randint(5, (EVENTS,)).cumsum(0)
    for given in (times, times.double()):
        given = None if "window" in options else given
        expected = F.session_segments(OFFSETS, given, **options)
        found = F.session_segments(
            OFFSETS.cuda(), None if given is None else given.cuda(), **options
        )
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours.cpu(), theirs)


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


@pytest.mark.parametrize("items", [1, 100, 5000])
@pytest.mark.parametrize("dim", [24, 64, 100, 200])
def test_linear_cross_entropy_on_tensor_cores(items, dim) -> None:
    torch.manual_seed(0)
    target = torch.randint(items, (300,))
    target[7] = -100

    def run(h: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(h.device.type, torch.bfloat16):
            return (F.linear_cross_entropy(h, w, target.to(h.device), b, reduction="none"),)

    assert_same(
        run, torch.randn(300, dim), torch.randn(items, dim) / dim**0.5, torch.randn(items),
        tolerance=1e-2,
    )  # fmt: skip


@pytest.mark.parametrize("sizes", [(700, 3001, 64), (33, 20_000, 100), (2000, 50, 256)], ids=str)
@pytest.mark.parametrize(("softcap", "smoothing"), [(None, 0.0), (5.0, 0.2)])
def test_linear_cross_entropy_of_bfloat16_against_float64(sizes, softcap, smoothing) -> None:
    torch.manual_seed(0)
    rows, items, dim = sizes
    hidden = torch.randn(rows, dim, device="cuda").bfloat16()
    weight = (torch.randn(items, dim, device="cuda") / dim**0.5).bfloat16()
    bias, target = torch.randn(items, device="cuda"), torch.randint(items, (rows,), device="cuda")
    h, w = hidden.double(), weight.double()
    scores = (0.7 * h @ w.T + bias).requires_grad_()
    logits = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    truth = torch.nn.functional.cross_entropy(
        logits, target, label_smoothing=smoothing, reduction="none"
    )
    (grad,) = torch.autograd.grad(truth.sum(), scores)
    # Under autocast, so that gradients come in float32.
    leaves = [t.float().requires_grad_() for t in (hidden, weight, bias)]
    with torch.autocast("cuda", torch.bfloat16):
        loss = F.linear_cross_entropy(
            *leaves[:2], target, leaves[2], scale=0.7, softcap=softcap,
            label_smoothing=smoothing, reduction="none",
        )  # fmt: skip
    torch.testing.assert_close(loss.double(), truth, rtol=2e-5, atol=2e-5)
    found = torch.autograd.grad(loss.sum(), leaves)
    exact = (0.7 * grad @ w, 0.7 * grad.T @ h, grad.sum(0))
    # Gradients of scores are rounded to bfloat16 where vectors are summed by them.
    rounding = (
        0.7 * grad.abs() @ w.abs(),
        0.7 * grad.T.abs() @ h.abs(),
        torch.zeros_like(exact[2]),
    )
    for ours, true, terms in zip(found, exact, rounding, strict=True):
        assert ((ours - true).abs() <= 1.01 * 2**-8 * terms + 5e-5 * true.abs().max()).all()


def test_tables_of_bfloat16() -> None:
    torch.manual_seed(0)
    hidden, weight = torch.randn(300, 64), torch.randn(3000, 64) / 8
    target, found = torch.randint(3000, (300,), device="cuda"), []
    for dtype in (torch.float32, torch.bfloat16):
        h, w = (t.bfloat16().to("cuda", dtype).requires_grad_() for t in (hidden, weight))
        with torch.autocast("cuda", torch.bfloat16, enabled=dtype == torch.float32):
            loss = F.linear_cross_entropy(h, w, target)
        found.append((loss.detach(), *torch.autograd.grad(loss, (h, w))))
    for full, low, dtype in zip(*found, (torch.float32, *[torch.bfloat16] * 2), strict=True):
        assert low.dtype == dtype
        assert torch.equal(full.to(dtype), low)


def test_cross_entropy_takes_the_memory_of_gradients() -> None:
    hidden = torch.randn(4096, 64, device="cuda").bfloat16().requires_grad_()
    weight = torch.randn(200_000, 64, device="cuda").bfloat16().requires_grad_()
    target = torch.randint(200_000, (4096,), device="cuda")
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    F.linear_cross_entropy(hidden, weight, target).backward()
    gradients = 2 * (hidden.numel() + weight.numel())
    # What blocks have summed of ranges of items is beside them; logits would be 1.6 GB.
    assert torch.cuda.max_memory_allocated() - before < gradients + (100 << 20)


def test_cross_entropy_in_a_graph() -> None:
    hidden, weight = torch.randn(300, 64, device="cuda"), torch.randn(3000, 64, device="cuda") / 8
    hidden, weight = hidden.bfloat16(), weight.bfloat16().requires_grad_()
    target = torch.randint(3000, (300,), device="cuda")

    def step() -> tuple[Tensor, Tensor]:
        loss = F.linear_cross_entropy(hidden, weight, target)
        return loss, torch.autograd.grad(loss, weight)[0]

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step()
    hidden.copy_(torch.randn_like(hidden))
    graph.replay()
    assert all(torch.equal(a, b) for a, b in zip(found, step(), strict=True))


class _Asked(torch.nn.Module):
    """A model with its history and targets, as a function of nothing but its parameters."""

    def __init__(self, model: torch.nn.Module, items: Tensor, times: Tensor) -> None:
        super().__init__()
        self.model = model
        for name, tensor in {"items": items, "offsets": OFFSETS, "times": times,
                             "targets": torch.arange(len(LENGTHS))}.items():  # fmt: skip
            self.register_buffer(name, tensor)

    def clicks(self) -> tuple[Tensor, ...]:
        logits = self.model(self.items, self.offsets, self.targets, self.times)
        more = self.model.auxiliary_loss()
        return (logits,) if more is None else (logits, more)

    def next_items(self) -> tuple[Tensor, ...]:
        inputs = torch.nn.functional.embedding(self.items, self.model.input_table)
        hidden, _ = self.model.run(inputs, self.offsets, times=self.times)
        return hidden, self.model.auxiliary_loss()


@pytest.mark.parametrize("k", [1, 2])
@pytest.mark.parametrize("task", ["next-item", "click-through"])
def test_theme_mixture(task, k) -> None:
    options = {"dropout_embedding": 0, "dropout_hidden": 0, "seed": 2, "hidden_size": 32}
    model = models.ThemeMixture(50, task=task, k=k, n_themes=5, **options)
    times = torch.randint(3000, (EVENTS,)).cumsum(0).double()
    asked = _Asked(model, torch.randint(50, (EVENTS,)), times)
    run = asked.clicks if task == "click-through" else asked.next_items
    assert_same(run, module=asked, tolerance=1e-3)


@pytest.mark.parametrize("model", ["DIN", "DIEN"])
def test_click_through(model) -> None:
    made = getattr(models, model)(50, seed=2)
    asked = _Asked(made, torch.randint(50, (EVENTS,)), torch.zeros(EVENTS).double())
    assert_same(asked.clicks, module=asked, tolerance=1e-3)


@pytest.mark.parametrize("hidden", [64, 1100])
def test_recurrent_layers_in_a_graph(hidden) -> None:
    layer = nn.LSTM(16, hidden).cuda()
    x = torch.randn(5, 3, 16, device="cuda", requires_grad=True)

    def run() -> tuple[Tensor, ...]:
        y = layer(x)[0]
        return y, *torch.autograd.grad(y.sum(), [x, layer.weight_hh_l0])

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = run()
    with torch.no_grad():
        x.copy_(torch.randn_like(x))
    graph.replay()
    for ours, expected in zip(found, run(), strict=True):
        assert torch.equal(ours, expected)


def test_experts_in_a_graph() -> None:
    experts = nn.ExpertGRU(4, 16, 24).cuda()
    pooling = nn.AttentionPooling(24).cuda()
    x, offsets = torch.randn(EVENTS, 16, device="cuda"), OFFSETS.cuda()

    def run() -> Tensor:
        y = experts(x, offsets=offsets)[0]
        return pooling(y[: len(LENGTHS)], y, offsets)

    with torch.no_grad():
        run()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            y = run()
        x.copy_(torch.randn_like(x))
        graph.replay()
        assert torch.equal(y, run())


@pytest.mark.parametrize(
    ("queries", "items", "dim", "k"),
    [(1, 5000, 64, 10), (60, 5000, 30, 10), (200, 70_000, 64, 100), (1025, 300_000, 33, 7),
     (130, 600_000, 128, 1000)],
)  # fmt: skip
def test_topk_has_the_bits_of_the_cpu(queries, items, dim, k) -> None:
    torch.manual_seed(0)
    q, x, bias = torch.randn(queries, dim), torch.randn(items, dim), torch.randn(items)
    q[queries // 2], x[:: items // 9], bias[::77] = 0, torch.nan, -torch.inf
    exclude = torch.randint(items, (queries * 3,)), torch.arange(0, queries * 3 + 1, 3)
    allow = torch.rand(items) < 0.5
    for used in ({}, {"bias": bias}, {"bias": bias, "exclude": exclude, "allow": allow}):
        on_gpu = {
            name: tuple(t.cuda() for t in value) if isinstance(value, tuple) else value.cuda()
            for name, value in used.items()
        }
        expected = F.topk(q, x, k, **used)
        for _ in range(2):
            for ours, theirs in zip(F.topk(q.cuda(), x.cuda(), k, **on_gpu), expected, strict=True):
                assert torch.equal(ours.cpu(), theirs)


def test_topk_in_a_graph() -> None:
    queries, items = torch.randn(256, 32, device="cuda"), torch.randn(50_000, 32, device="cuda")
    F.topk(queries, items, 20)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        scores, ids = F.topk(queries, items, 20)
    queries.copy_(torch.randn_like(queries))
    graph.replay()
    expected = F.topk(queries, items, 20)
    assert torch.equal(scores, expected[0])
    assert torch.equal(ids, expected[1])


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
