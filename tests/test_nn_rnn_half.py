"""float16 and bfloat16 layers on the CPU: computed in float32, as wide as torch.nn's outside."""

from __future__ import annotations

import pytest
import torch

import seqrec_fast.nn as snn
from rnn_cases import pair

DTYPES = (torch.float16, torch.bfloat16)


def gradients(module, call):
    """Results of a call, and the gradients of the parameters."""
    found = call(module)
    state = found[1] if isinstance(found, tuple) else found
    tensors = [found[0], *(state if isinstance(state, tuple) else (state,))]
    sum(t.float().square().sum() for t in tensors).backward()
    return tensors, [p.grad for p in module.parameters()]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("hidden", [5, 24])
def test_layers(kind, hidden, dtype):
    torch.manual_seed(0)
    theirs, ours = (m.to(dtype) for m in pair(kind, 4, hidden, 2, bidirectional=True))
    x, state = torch.randn(6, 3, 4, dtype=dtype), torch.randn(4, 3, hidden, dtype=dtype)
    hx = (state, state) if kind == "LSTM" else state
    expected, expected_gradients = gradients(theirs, lambda m: m(x, hx))
    found, found_gradients = gradients(ours, lambda m: m(x, hx))
    tolerance = 8 * torch.finfo(dtype).eps
    for a, b in zip(found + found_gradients, expected + expected_gradients, strict=True):
        assert a.dtype == dtype
        assert (a - b).abs().max() <= tolerance * b.abs().max()
    offsets = torch.tensor([0, 6])
    assert torch.equal(ours(x[:, 0], offsets=offsets)[0], ours(x[:, 0])[0])


def test_compile():
    layer, x = snn.GRU(4, 24).bfloat16(), torch.randn(6, 3, 4).bfloat16()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x)[0], layer(x)[0])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", ["GRUCell", "LSTMCell", "RNNCell"])
def test_cells(kind, dtype):
    torch.manual_seed(1)
    theirs, ours = getattr(torch.nn, kind)(4, 16).to(dtype), getattr(snn, kind)(4, 16).to(dtype)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(3, 4, dtype=dtype)
    expected, expected_gradients = gradients(theirs, lambda m: m(x))
    found, found_gradients = gradients(ours, lambda m: m(x))
    tolerance = 8 * torch.finfo(dtype).eps
    for a, b in zip(found + found_gradients, expected + expected_gradients, strict=True):
        assert a.dtype == dtype
        assert (a - b).abs().max() <= tolerance * b.abs().max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_experts(dtype):
    layer = snn.ExpertGRU(2, 4, 16).to(dtype)
    x, offsets = torch.randn(5, 4, dtype=dtype), torch.tensor([0, 2, 2, 3, 5])
    wide = snn.ExpertGRU(2, 4, 16)
    wide.load_state_dict(layer.state_dict())
    for ours, theirs in zip(layer(x, offsets=offsets), wide(x.float(), offsets=offsets),
                            strict=True):  # fmt: skip
        assert torch.equal(ours, theirs.to(dtype))
