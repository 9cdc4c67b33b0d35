"""
Whole models with CUDA kernels on emulated threads: values and gradients are those of the CPU.

This module is imported twice, also by the process in which CUDA kernels are emulated.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

import emulated_process
from click_cases import small
from seqrec_fast import nn
from seqrec_fast.models import ThemeMixture, _theme_parts
from seqrec_fast.nn import attention_pooling
from seqrec_fast.nn import functional as F

THEMES = {
    "next item": {},
    "next item, two themes each": {"k": 2},
    "click": {"task": "click-through"},
    "click, two themes each": {"task": "click-through", "k": 2},
}
CLICKS = ("din", "din, softmax, dice", "dien", "gru", "augru")


@pytest.fixture(scope="module")
def device():
    """A process of its own, since what operators are registered for is settled by the import."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, emulated_process.install) as pool:
        yield pool


def assert_same(model, loss):
    """`loss()` and its gradients are close on both; returns the operators that were called."""
    found = []
    for on_device in (False, True):
        model.zero_grad()
        torch.manual_seed(0)
        if on_device:
            with emulated_process.emulated_device() as called:
                value = loss()
                value.backward()
        else:
            value = loss()
            value.backward()
        named = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        found.append({"loss": value.detach(), **named})
    expected, ours = found
    assert ours.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(
            ours[name], tensor, rtol=1e-3, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    return called


def batch():
    generator = torch.Generator().manual_seed(4)
    lengths = torch.tensor([5, 0, 1, 13, 7])
    offsets = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)])
    items = torch.randint(11, (int(lengths.sum()),), generator=generator)
    gaps = torch.rand(len(items), generator=generator, dtype=torch.float64) * 3000
    times = torch.cat([gaps[a:b].cumsum(0) for a, b in pairwise(offsets.tolist())])
    return items, offsets, times, torch.tensor([5, 3, 5, 8, 0])


def check_themes(options, with_times):
    model = ThemeMixture(
        11, hidden_size=6, n_themes=3, session_window=4, dropout_embedding=0, dropout_hidden=0,
        seed=2, **options,
    )  # fmt: skip
    items, offsets, times, target = batch()
    times = times if with_times else None

    def loss():
        if options.get("task") == "click-through":
            value = model(items, offsets, target, times).sigmoid().sum()
        else:
            hidden, _ = model.run(model.input_table[items], offsets, times=times)
            value = F.linear_cross_entropy(hidden, model.item_table, items, model.output.bias)
        return value + model.auxiliary_loss()

    return assert_same(model, loss)


def check_clicks(name):
    model = small(name)
    items, offsets, _, target = batch()

    def loss():
        return model(items, offsets, target).sigmoid().sum()

    return assert_same(model, loss)


def check_experts(gates):
    """Experts of each kind over the same themes, and a mixture of feed-forward ones."""
    torch.manual_seed(1)
    model = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(11, 6),
            "gate": nn.ExpertGate(6, 3, 2),
            "gru": nn.ExpertGRU(3, 6, 7),
            "lstm": nn.ExpertLSTM(3, 6, 7),
            "augru": nn.ExpertAUGRU(3, 6, 7),
            "linear": torch.nn.Linear(6, 3 * 7),
        }
    )
    items, offsets, _, _ = batch()
    batch_size = len(offsets) - 1

    def loss():
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
        feed_forward = F.grouped_linear(rows, weight, bias, plan.offsets[::batch_size])
        logits = x[None, :, :3] * torch.linspace(-1, 1, gates, device=x.device)[:, None, None]
        outputs = torch.stack([of_events, of_events.sin(), of_events.cos()])
        mixture = F.multi_gate_mixture(outputs, logits)
        balance = F.load_balancing_loss(gate.logits, gate.expert_ids, offsets=offsets)
        chosen, _ = F.expert_choice(gate.logits, offsets=offsets)
        return mixture.sum() + feed_forward.sin().sum() + balance + chosen.square().sum()

    return assert_same(model, loss)


def check_gates():
    """What chooses experts, and the losses of choices; returns the names of what differs."""
    torch.manual_seed(1)
    _, offsets, _, _ = batch()
    x, logits = torch.randn(26, 6), torch.randn(26, 4)
    ids, valid = logits.topk(2).indices, torch.rand(26) < 0.8
    gates = [nn.ExpertGate(6, 4, 2, noise="normal"), nn.DSelectK(6, 4, 2).eval()]
    functions = {
        "ExpertGate": lambda: gates[0](x),
        "DSelectK": lambda: gates[1](x),
        "expert_choice": lambda: F.expert_choice(logits, offsets=offsets, valid=valid),
        "expert_load": lambda: F.expert_load(ids, 4, offsets=offsets, valid=valid),
        "gate_diagnostics": lambda: F.gate_diagnostics(logits, ids),
        "importance_loss": lambda: F.importance_loss(logits.softmax(1)[:, :2], ids, 4),
        "load_balancing_loss": lambda: F.load_balancing_loss(logits, ids, valid=valid),
        "router_z_loss": lambda: F.router_z_loss(logits, valid=valid),
        "route_segments": lambda: F.route_segments(x, offsets, logits[:6].T.contiguous(), 2),
        "segment_softmax": lambda: F.segment_softmax(logits[:, 0], offsets),
    }
    wrong = []
    for name, function in functions.items():
        gates[0].noise_step.zero_()
        expected = tree_leaves(function())
        gates[0].noise_step.zero_()
        with emulated_process.emulated_device():
            found = tree_leaves(function())
        for ours, theirs in zip(found, expected, strict=True):
            if not torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5, equal_nan=True):
                wrong.append(name)
    return wrong


def test_gates(device):
    assert device.submit(check_gates).result() == []


@pytest.mark.parametrize("with_times", [True, False])
@pytest.mark.parametrize("name", THEMES)
def test_theme_mixture(device, name, with_times):
    called = device.submit(check_themes, THEMES[name], with_times).result()
    assert {"session_segments", "dispatch_by_expert", "rnn_forward", "rnn_backward",
            "combine_rows", "expert_gate", "cross_entropy"} <= called  # fmt: skip


@pytest.mark.parametrize("name", CLICKS)
def test_click_through(device, name):
    called = device.submit(check_clicks, name).result()
    assert "segment_sum" in called
    if name.startswith("din"):
        assert {"grouped_linear", "grouped_linear_grad"} <= called


def test_experts(device):
    called = device.submit(check_experts, 2).result()
    assert {"grouped_linear_grad", "multi_gate_mixture_grad", "rnn_backward"} <= called


def test_a_tensor_of_the_host_is_found(device):
    with pytest.raises(RuntimeError, match="meta"):
        device.submit(_mix).result()
    with pytest.raises(AssertionError, match="taken for an array of the host"):
        device.submit(_to_array).result()


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
    found = attention_pooling.segment_max_cuda(scores, offsets)
    assert found.tolist() == [5.0, -torch.inf, -2.0, 0.5]


def _mix():
    x = torch.ones(3)
    with emulated_process.emulated_device():
        return (x + torch.ones(3)).sum().item()


def _to_array():
    with emulated_process.emulated_device():
        return torch.ones(3, device="cpu").numpy()
