"""Whole models on CUDA, on emulated threads or a GPU: values and gradients are those of the CPU."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from click_cases import small
from emulated_device import cuda_device  # noqa: F401 - a fixture
from seqrec_fast import nn
from seqrec_fast.models import ThemeMixture, _theme_parts
from seqrec_fast.nn import functional as F
from seqrec_fast.nn import segments

THEMES = {
    "next item": {},
    "next item, two themes each": {"k": 2},
    "click": {"task": "click-through"},
    "click, two themes each": {"task": "click-through", "k": 2},
}
CLICKS = ("din", "din, softmax, dice", "dien", "gru", "augru")
on_cuda = pytest.mark.usefixtures("cuda_device")


def assert_same(made, loss):
    """`loss(made(), *tensors)` and its gradients are close, with all of `batch` on the device."""
    found = []
    for device in ("cpu", "cuda"):
        model = made().to(device)
        value = loss(model, *(t.to(device) for t in batch()))
        value.backward()
        named = {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
        found.append({"loss": value.detach().cpu(), **named})
    expected, ours = found
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            ours[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )


def batch():
    generator = torch.Generator().manual_seed(4)
    lengths = torch.tensor([5, 0, 1, 13, 7])
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    items = torch.randint(11, (int(lengths.sum()),), generator=generator)
    gaps = torch.rand(len(items), generator=generator, dtype=torch.float64) * 3000
    times = torch.cat([gaps[a:b].cumsum(0) for a, b in pairwise(offsets.tolist())])
    return items, offsets, times, torch.tensor([5, 3, 5, 8, 0])


@on_cuda
@pytest.mark.parametrize("with_times", [True, False])
@pytest.mark.parametrize("name", THEMES)
def test_theme_mixture(name, with_times):
    options = THEMES[name]

    def made():
        return ThemeMixture(
            11, hidden_size=6, n_themes=3, session_window=4, dropout_embedding=0,
            dropout_hidden=0, seed=2, **options,
        )  # fmt: skip

    def loss(model, items, offsets, times, target):
        times = times if with_times else None
        if options.get("task") == "click-through":
            value = model(items, offsets, target, times).sigmoid().sum()
        else:
            hidden, _ = model.run(model.input_table[items], offsets, times=times)
            value = F.linear_cross_entropy(hidden, model.item_table, items, model.output.bias)
        return value + model.auxiliary_loss()

    assert_same(made, loss)


@on_cuda
@pytest.mark.parametrize("name", CLICKS)
def test_click_through(name):
    def loss(model, items, offsets, times, target):
        return model(items, offsets, target).sigmoid().sum()

    assert_same(lambda: small(name), loss)


@on_cuda
def test_experts():
    """Experts of each kind over the same themes, and a mixture of feed-forward ones."""

    def made():
        torch.manual_seed(1)
        return torch.nn.ModuleDict(
            {
                "embedding": torch.nn.Embedding(11, 6),
                "gate": nn.ExpertGate(6, 3, 2),
                "gru": nn.ExpertGRU(3, 6, 7),
                "lstm": nn.ExpertLSTM(3, 6, 7),
                "augru": nn.ExpertAUGRU(3, 6, 7),
                "linear": torch.nn.Linear(6, 3 * 7),
            }
        )

    def loss(model, items, offsets, times, target):
        x = torch.nn.functional.embedding(items, model["embedding"].weight)
        gate = model["gate"].route(x)
        rows, plan = F.dispatch_by_expert(x, offsets, gate.expert_ids, 3, weights=gate.weights)
        scores = rows[:, 0].sigmoid()
        found = [
            model["gru"](rows, offsets=plan.offsets)[0],
            model["lstm"](rows, offsets=plan.offsets)[0],
            model["augru"](rows, scores, offsets=plan.offsets)[0],
        ]
        of_events = F.combine_by_expert(sum(found), plan, gate.weights)
        linear = model["linear"]
        weight, bias = linear.weight.view(3, 7, 6), linear.bias.view(3, 7)
        feed_forward = F.grouped_linear(rows, weight, bias, plan.offsets[:: len(offsets) - 1])
        logits = x[None, :, :3] * torch.linspace(-1, 1, 2, device=x.device)[:, None, None]
        outputs = torch.stack([of_events, of_events.sin(), of_events.cos()])
        mixture = F.multi_gate_mixture(outputs, logits)
        balance = F.load_balancing_loss(gate.logits, gate.expert_ids, offsets=offsets)
        chosen, _ = F.expert_choice(gate.logits, offsets=offsets)
        return mixture.sum() + feed_forward.sin().sum() + balance + chosen.square().sum()

    assert_same(made, loss)


GATES = {
    "DSelectK": lambda g, x, logits, ids, valid, offsets: g["dselect"](x),
    "ExpertGate": lambda g, x, logits, ids, valid, offsets: g["noisy"](x),
    "expert_choice": lambda g, x, logits, ids, valid, offsets: F.expert_choice(
        logits, offsets=offsets, valid=valid
    ),
    "expert_load": lambda g, x, logits, ids, valid, offsets: F.expert_load(
        ids, 4, offsets=offsets, valid=valid
    ),
    "gate_diagnostics": lambda g, x, logits, ids, valid, offsets: F.gate_diagnostics(logits, ids),
    "importance_loss": lambda g, x, logits, ids, valid, offsets: F.importance_loss(
        logits.softmax(1)[:, :2], ids, 4
    ),
    "load_balancing_loss": lambda g, x, logits, ids, valid, offsets: F.load_balancing_loss(
        logits, ids, valid=valid
    ),
    "router_z_loss": lambda g, x, logits, ids, valid, offsets: F.router_z_loss(logits, valid=valid),
    "route_segments": lambda g, x, logits, ids, valid, offsets: F.route_segments(
        x, offsets, logits[:6].T.contiguous(), 2
    ),
    "segment_softmax": lambda g, x, logits, ids, valid, offsets: F.segment_softmax(
        logits[:, 0], offsets
    ),
}


@on_cuda
@pytest.mark.parametrize("name", GATES)
def test_gates(name):
    """What chooses experts, and the losses of choices."""
    torch.manual_seed(1)
    logits = torch.randn(26, 4)
    tensors = (torch.randn(26, 6), logits, logits.topk(2).indices, torch.rand(26) < 0.8, batch()[1])
    found = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(2)
        gates = {"noisy": nn.ExpertGate(6, 4, 2, noise="normal"), "dselect": nn.DSelectK(6, 4, 2)}
        gates = {n: gate.to(device).train(n == "noisy") for n, gate in gates.items()}
        results = GATES[name](gates, *(t.to(device) for t in tensors))
        found.append([t.detach().cpu() for t in tree_leaves(results)])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5, equal_nan=True)


@on_cuda
def test_tensors_of_two_devices_are_found():
    x = torch.ones(3).to("cuda")
    with pytest.raises((AssertionError, RuntimeError), match="two devices"):
        x + torch.ones(3)
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()


def test_segments_of_a_history_without_waiting():
    """On a GPU the host looks at no values, which a fake tensor has not."""
    with FakeTensorMode(), torch.no_grad():
        scores = torch.empty(9, device="cuda")
        offsets = torch.empty(4, dtype=torch.int64, device="cuda")
        found = F.segment_softmax(scores, offsets), F.segment_sum(scores, offsets)
    assert [(t.shape, t.device.type) for t in found] == [((9,), "cuda"), ((3,), "cuda")]


@pytest.mark.parametrize("to_later", [True, False])
def test_neighbours_in_a_session(to_later):
    position = torch.cat([torch.arange(n) for n in (1, 7, 2, 16, 1)])
    start = torch.randn(len(position), 3, generator=torch.Generator().manual_seed(1))
    found, expected = start.clone(), start.clone()
    _theme_parts.add_neighbours_everywhere(found, position, 15, to_later)
    _theme_parts._add_neighbours(expected, position, to_later)
    assert torch.equal(found, expected)


def test_largest_of_a_segment_whatever_the_offsets():
    scores = torch.tensor([1.0, 5.0, -2.0, -3.0, 0.5])
    offsets = torch.tensor([0, 2, 2, 4, 5])
    found = segments.segment_max_cuda(scores, offsets)
    assert found.tolist() == [5.0, -torch.inf, -2.0, 0.5]
