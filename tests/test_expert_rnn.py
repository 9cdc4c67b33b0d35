"""Recurrent experts: bit for bit as many layers, in one call."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import seqrec_fast as sf
import seqrec_fast.nn as snn
from seqrec_fast import _core

KINDS = ("GRU", "LSTM", "augru_paper", "augru_tf", "agru", "aigru")
LENGTHS = ((3, 0, 5), (0, 0, 0), (1, 7, 2), (0, 4, 0))  # (experts, sequences)


def experts_of(kind: str, *sizes: int, **options: Any) -> Any:
    if kind in ("GRU", "LSTM"):
        return getattr(snn, f"Expert{kind}")(*sizes, **options)
    return snn.ExpertAUGRU(*sizes, mode=kind, **options)


def layer_of(kind: str, experts: Any, m: int, **options: Any) -> Any:
    sizes = experts.input_size, experts.hidden_size
    layer: Any = (
        getattr(snn, kind)(*sizes, bias=experts.bias, **options)
        if kind in ("GRU", "LSTM")
        else snn.AUGRU(*sizes, mode=kind, bias=experts.bias, **options)
    )
    layer.load_state_dict({name: p[m] for name, p in experts.state_dict().items()})
    return layer


class Batch:
    def __init__(self, kind: str, inputs: int, hidden: int, dtype: torch.dtype) -> None:
        torch.manual_seed(7)
        lengths = torch.tensor(LENGTHS)
        self.offsets = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.flatten().cumsum(0)])
        events, batch = int(lengths.sum()), lengths.shape[1]
        self.batch = batch
        self.tensors = [torch.randn(events, inputs, dtype=dtype)]
        if kind not in ("GRU", "LSTM"):
            self.tensors.append(torch.rand(events, dtype=dtype))
        self.n_event_tensors = len(self.tensors)
        states = 2 if kind == "LSTM" else 1
        self.tensors += [torch.randn(len(LENGTHS), batch, hidden, dtype=dtype)] * states
        self.tensors = [t.clone().requires_grad_(True) for t in self.tensors]

    def run(self, experts: Any) -> list[torch.Tensor]:
        events = self.tensors[: self.n_event_tensors]
        states = self.tensors[self.n_event_tensors :]
        hx = tuple(states) if len(states) == 2 else states[0]
        y, final = experts(*events, hx, offsets=self.offsets)
        return [y, *(final if isinstance(final, tuple) else (final,))]

    def run_each(self, layers: list[Any]) -> list[torch.Tensor]:
        """One layer after another."""
        results: list[list[torch.Tensor]] = []
        for m, layer in enumerate(layers):
            bounds = self.offsets[m * self.batch : (m + 1) * self.batch + 1]
            events = [t[bounds[0] : bounds[-1]] for t in self.tensors[: self.n_event_tensors]]
            states = [t[m : m + 1] for t in self.tensors[self.n_event_tensors :]]
            hx = tuple(states) if len(states) == 2 else states[0]
            y, final = layer(*events, hx, offsets=bounds - bounds[0])
            results.append([y, *(final if isinstance(final, tuple) else (final,))])
        return [torch.cat(parts) for parts in zip(*results, strict=True)]


def gradients(outputs: list[torch.Tensor], tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    total = sum((y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum()
                for y in outputs)  # fmt: skip
    assert isinstance(total, torch.Tensor)
    found = torch.autograd.grad(total, tensors, allow_unused=True)
    return [torch.zeros_like(t) if g is None else g for g, t in zip(found, tensors, strict=True)]


@pytest.mark.parametrize("threads", [1, 3, 7])
@pytest.mark.parametrize("hidden", [5, 37])
@pytest.mark.parametrize("kind", KINDS)
def test_bits_of_single_layers(kind, hidden, threads):
    sf.set_num_threads(threads)
    experts = experts_of(kind, len(LENGTHS), 6, hidden, bias=hidden == 37)
    batch = Batch(kind, 6, hidden, torch.float32)
    layers = [layer_of(kind, experts, m) for m in range(len(LENGTHS))]
    outputs, expected = batch.run(experts), batch.run_each(layers)
    for got, want in zip(outputs, expected, strict=True):
        assert torch.equal(got, want)
    names = [name for name, _ in experts.named_parameters()]
    got = gradients(outputs, [*batch.tensors, *experts.parameters()])
    parameters = [dict(layer.named_parameters())[name] for name in names for layer in layers]
    want = gradients(expected, [*batch.tensors, *parameters])
    n, m = len(batch.tensors), len(layers)
    stacked = [torch.stack(want[n + i * m : n + (i + 1) * m]) for i in range(len(names))]
    for name, a, b in zip((*"xah"[:n], *names), got, (*want[:n], *stacked), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind):
    experts = experts_of(kind, len(LENGTHS), 3, 4, dtype=torch.float64)
    batch = Batch(kind, 3, 4, torch.float64)

    def run(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        batch.tensors = list(tensors[: len(batch.tensors)])
        return tuple(batch.run(experts))

    inputs = (*batch.tensors, *experts.parameters())
    assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


def test_an_expert_without_events_keeps_its_states_and_has_no_gradient():
    experts = experts_of("GRU", len(LENGTHS), 6, 21)
    batch = Batch("GRU", 6, 21, torch.float32)
    _, h_n = batch.run(experts)
    assert torch.equal(h_n[1], batch.tensors[1][1])
    h_n.sum().backward()
    for parameter in experts.parameters():
        assert not parameter.grad[1].any()
        assert parameter.grad[0].any()


def test_no_events_at_all():
    experts = experts_of("LSTM", 2, 6, 21)
    x = torch.zeros(0, 6, requires_grad=True)
    y, (h_n, c_n) = experts(x, offsets=torch.zeros(7, dtype=torch.int64))
    assert y.shape == (0, 21)
    assert h_n.shape == c_n.shape == (2, 3, 21)
    (y.sum() + h_n.sum()).backward()
    assert experts(x, offsets=torch.zeros(1, dtype=torch.int64))[1][0].shape == (2, 0, 21)


@pytest.mark.parametrize("kind", ["LSTM", "augru_tf"])
def test_compile_and_operator(kind):
    experts = experts_of(kind, len(LENGTHS), 6, 12)
    batch = Batch(kind, 6, 12, torch.float32)
    compiled = torch.compile(experts, fullgraph=True, backend="aot_eager")
    for got, want in zip(batch.run(compiled), batch.run(experts), strict=True):
        assert torch.equal(got, want)
    x, h_0, c_0 = batch.tensors[0], batch.tensors[-1].detach().flatten(0, 1), None
    options = {}
    if kind == "LSTM":
        c_0 = h_0
    else:
        options["attention"] = batch.tensors[1]
    torch.library.opcheck(
        torch.ops.seqrec_fast.rnn_forward.default,
        (
            "lstm" if kind == "LSTM" else kind, x, h_0, c_0, *experts.parameters(), None,
            batch.offsets, None, None, False, False, True,
        ),
        options,
    )  # fmt: skip


def test_autocast():
    experts = experts_of("GRU", len(LENGTHS), 24, 48)
    batch = Batch("GRU", 24, 48, torch.float32)
    y = batch.run(experts)[0]
    with torch.autocast("cpu", torch.bfloat16):
        reduced = batch.run(experts)[0]
    assert 0 < (reduced - y).norm() < 2e-2 * y.norm()


WRONG: list[tuple[str, dict[str, Any]]] = [
    (r"input has shape \(4, 5\); expected \(events, 6\)", {"input": torch.zeros(4, 5)}),
    (r"input is torch.float64; expected torch.float32", {"input": torch.zeros(4, 6).double()}),
    (r"offsets have shape \(4,\); expected \(2 \* B", {"offsets": torch.arange(4)}),
    (r"offsets end at 3; expected 4", {"offsets": torch.tensor([0, 1, 2, 3, 3])}),
    (r"offsets decrease from 2 to 1", {"offsets": torch.tensor([0, 2, 1, 3, 4])}),
    (r"state has shape \(1, 4, 21\); expected \(2, 2, 21\)", {"hx": torch.zeros(1, 4, 21)}),
    (r"state has shape \(2, 2, 20\); expected \(2, 2, 21\)", {"hx": torch.zeros(2, 2, 20)}),
    (r"hx is torch.float64; expected torch.float32", {"hx": torch.zeros(2, 2, 21).double()}),
    (r"hx is torch.int64; expected torch.float32", {"hx": torch.zeros(2, 2, 21).long()}),
]


@pytest.mark.parametrize(("message", "wrong"), WRONG, ids=str)
def test_wrong_input_is_named(message, wrong):
    given = {"input": torch.zeros(4, 6), "offsets": torch.arange(5)} | wrong
    with pytest.raises(ValueError, match=message):
        snn.ExpertGRU(2, 6, 21)(**given)


@pytest.mark.parametrize("wrong", [{"offsets": torch.arange(5).int()}, {"offsets": [0, 1, 2, 3, 4]},
                                   {"input": [[0.0]]}, {"hx": [0.0]}], ids=str)  # fmt: skip
def test_wrong_types_are_named(wrong):
    given = {"input": torch.zeros(4, 6), "offsets": torch.arange(5)} | wrong
    with pytest.raises(TypeError, match=r"^ExpertGRU: .* is .*; expected"):
        snn.ExpertGRU(2, 6, 21)(**given)


def test_wrong_sizes_and_pairs_are_named():
    x, offsets = torch.zeros(4, 6), torch.arange(5)
    with pytest.raises(ValueError, match="ExpertGRU: num_experts is 0; expected an integer"):
        snn.ExpertGRU(0, 6, 21)
    with pytest.raises(ValueError, match=r"ExpertAUGRU: attention has shape \(3,\); expected"):
        snn.ExpertAUGRU(2, 6, 21)(x, torch.zeros(3), offsets=offsets)
    with pytest.raises(TypeError, match="ExpertLSTM: hx is not a pair"):
        snn.ExpertLSTM(2, 6, 21)(x, torch.zeros(2, 2, 21), offsets=offsets)


def test_the_kernels_take_no_argument_that_they_do_not_know():
    with pytest.raises(TypeError, match="rnn_experts_forward: there is no argument weight_hx"):
        _core.rnn_experts_forward_f32("gru", 1, False, "full", None, False, weight_hx=None)
    with pytest.raises(TypeError, match="rnn_experts_backward: there is no argument weight_hx"):
        _core.rnn_experts_backward_f32("gru", 1, False, "full", None, weight_hx=None)
