"""AUGRU and its relatives: definitions, gradients, forms of input, and the same bits anyhow."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pack_padded_sequence

import seqrec_fast as sf
import seqrec_fast.nn as snn
from rnn_cases import ERROR_FLOOR, relative_error
from seqrec_fast import reference

MODES = ("augru_paper", "augru_tf", "agru", "aigru")
OFFSETS = torch.tensor([0, 4, 4, 5, 12])  # lengths 4, 0, 1, 7


def step_loop(module, x, attention, h):
    """States after every step of (T, B, I), as PyTorch ports compute them, and all gradients."""
    outputs = []
    for x_t, a in zip(x, attention.unsqueeze(-1), strict=True):
        x_t = a * x_t if module.attention_mode == "aigru" else x_t
        gates = F.linear(x_t, module.weight_ih_l0, module.bias_ih_l0).chunk(3, -1)
        rec = F.linear(h, module.weight_hh_l0, module.bias_hh_l0).chunk(3, -1)
        r, z = (torch.sigmoid(gates[i] + rec[i]) for i in (0, 1))
        n = torch.tanh(gates[2] + r * rec[2])
        gru = (1 - z) * n + z * h
        h = {
            "augru_paper": h + a * (gru - h),
            "augru_tf": (1 - a) * gru + a * n,
            "agru": h + a * (n - h),
            "aigru": gru,
        }[module.attention_mode]
        outputs.append(h)
    return torch.stack(outputs), h


def gradients(run, module, *tensors):
    tensors = [t.detach().clone().requires_grad_(True) for t in tensors]
    module.zero_grad()
    y, h_n = run(module, *tensors)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).reshape(y.shape)
    ((y * weights).sum() + h_n.square().sum()).backward()
    grads = [t.grad for t in (*tensors, *module.parameters())]
    return [t.detach() for t in (y, *(torch.zeros(1) if g is None else g for g in grads))]


def problem(mode, inputs, hidden, steps, batch, dtype):
    torch.manual_seed(hidden)
    module = snn.AUGRU(inputs, hidden, mode=mode, dtype=dtype)
    x, h = torch.randn(steps, batch, inputs), torch.randn(batch, hidden)
    return module, (x.to(dtype), torch.rand(steps, batch).to(dtype), h.to(dtype))


def ours(module, x, attention, h):
    y, h_n = module(x, attention, h.unsqueeze(0))
    return y, h_n[0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hidden", [1, 16, 37, 100, 129])
@pytest.mark.parametrize("mode", MODES)
def test_equals_the_step_loop(mode, hidden, dtype):
    module, tensors = problem(mode, 13, hidden, 6, 5, dtype)
    exact = copy.deepcopy(module).double()
    truth = gradients(step_loop, exact, *(t.double() for t in tensors))
    theirs = gradients(step_loop, module, *tensors)
    for i, value in enumerate(gradients(ours, module, *tensors)):
        allowed = 2 * max(relative_error(theirs[i], truth[i]), ERROR_FLOOR[dtype])
        assert relative_error(value, truth[i]) <= allowed, i


@pytest.mark.parametrize("hidden", [5, 37])
@pytest.mark.parametrize("mode", MODES)
def test_definition_on_every_target(mode, hidden, target):
    torch.manual_seed(1)
    x, attention = torch.randn(12, 6), torch.rand(12)
    h_0 = torch.randn(1, 4, hidden)
    module = snn.AUGRU(6, hidden, mode=mode)
    y, h_n = module(x, attention, h_0, offsets=OFFSETS)
    weights = {name[:-3]: p.numpy() for name, p in module.state_dict().items()}
    if mode == "aigru":
        mode, x = "gru", x * attention[:, None]
    y_true, h_true, _ = reference.rnn(
        mode, x, OFFSETS, weights, h_0[0].numpy(), attention=attention
    )
    assert relative_error(y.detach(), y_true) < 1e-6
    assert relative_error(h_n[0].detach(), h_true) < 1e-6
    assert torch.equal(h_n[0, 1], h_0[0, 1])  # a session without events


@pytest.mark.parametrize("a", [0.0, 0.001, 1.0])
def test_both_definitions_by_a_step_of_a_gru(a):
    gru = torch.nn.GRU(7, 33, dtype=torch.float64)
    x, h = torch.randn(1, 4, 7, dtype=torch.float64), torch.randn(1, 4, 33, dtype=torch.float64)
    step = gru(x, h)[1]
    n, found = {}, {}
    for mode in MODES[:3]:
        module = snn.AUGRU(7, 33, mode=mode, dtype=torch.float64)
        module.load_state_dict(gru.state_dict())
        found[mode] = module(x, torch.full((1, 4), a, dtype=torch.float64), h)[1]
        n = module(x, torch.ones(1, 4, dtype=torch.float64), h)[1] if mode == "agru" else n
    torch.testing.assert_close(found["augru_paper"], h + a * (step - h), rtol=0, atol=1e-15)
    torch.testing.assert_close(found["augru_tf"], (1 - a) * step + a * n, rtol=0, atol=1e-15)
    torch.testing.assert_close(found["agru"], h + a * (n - h), rtol=0, atol=1e-15)


def test_no_attention_is_no_update_or_a_gru_to_the_bit():
    x, h = torch.randn(9, 3, 7), torch.randn(1, 3, 33)
    gru = snn.GRU(7, 33)
    for mode in MODES[:3]:
        module = snn.AUGRU(7, 33, mode=mode)
        module.load_state_dict(gru.state_dict())
        h_n = module(x, torch.zeros(9, 3), h)[1]
        assert torch.equal(h_n, gru(x, h)[1] if mode == "augru_tf" else h)


def test_small_scores_keep_the_precision_of_gradients():
    """Of a candidate that is weighed by 0.0001, float32 gradients have all their digits."""
    module, (x, attention, h) = problem("augru_paper", 13, 37, 6, 5, torch.float32)
    exact = copy.deepcopy(module).double()
    attention = attention * 1e-4
    truth = gradients(step_loop, exact, x.double(), attention.double(), h.double())
    for value, true in zip(gradients(ours, module, x, attention, h), truth, strict=True):
        assert relative_error(value, true) < 2e-6


@pytest.mark.parametrize("hidden", [3, 18])
@pytest.mark.parametrize("mode", MODES)
def test_gradcheck(mode, hidden):
    torch.manual_seed(3)
    module = snn.AUGRU(4, hidden, mode=mode, dtype=torch.float64)
    x, attention = torch.randn(12, 4).double(), torch.rand(12).double()
    h_0 = torch.randn(1, 4, hidden).double()
    tensors = [t.requires_grad_(True) for t in (x, attention, h_0)]
    assert torch.autograd.gradcheck(
        lambda x, a, h, *_: module(x, a, h, offsets=OFFSETS),
        (*tensors, *module.parameters()),
        fast_mode=True,
    )


@pytest.mark.parametrize("mode", MODES)
def test_same_bits_for_any_form_batch_and_thread_count(mode):
    torch.manual_seed(4)
    module = snn.AUGRU(6, 21, mode=mode)
    first = snn.AUGRU(6, 21, mode=mode, batch_first=True)
    first.load_state_dict(module.state_dict())
    x, attention, h_0 = torch.randn(5, 60, 6), torch.rand(5, 60), torch.randn(1, 60, 21)
    sf.set_num_threads(1)
    y, h_n = module(x, attention, h_0)
    sf.set_num_threads(3)
    assert torch.equal(module(x, attention, h_0)[0], y)
    y_first, h_first = first(x.transpose(0, 1), attention.T, h_0)
    assert torch.equal(y_first.transpose(0, 1), y)
    assert torch.equal(h_first, h_n)
    rows, scores = x.transpose(0, 1).reshape(-1, 6), attention.T.reshape(-1)
    offsets = torch.arange(0, 301, 5)
    assert torch.equal(module(rows, scores, h_0, offsets=offsets)[0].view(60, 5, -1), y_first)
    nested = torch.nested.nested_tensor_from_jagged(rows, offsets)
    nested_scores = torch.nested.nested_tensor_from_jagged(scores, offsets)
    for given in (scores, nested_scores):
        assert torch.equal(module(nested, given, h_0)[0].values().view(60, 5, -1), y_first)
    lengths = torch.tensor([3, 5, 1, *[4] * 57])
    pack = lambda t: pack_padded_sequence(t, lengths, enforce_sorted=False)  # noqa: E731
    _, h_packed = module(pack(x), pack(attention), h_0)
    for b, length in enumerate(lengths[:4]):
        assert torch.equal(h_packed[0, b], y[length - 1, b])
        alone, h_alone = module(x[:length, b], attention[:length, b], h_0[:, b])
        assert torch.equal(alone, y[:length, b])
        assert torch.equal(h_alone[0], h_packed[0, b])


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16", "int8"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("hidden", [4, 37])
def test_torch_free_whole_and_event_by_event(mode, precision, hidden):
    torch.manual_seed(5)
    dtype = torch.float64 if precision == "float64" else torch.float32
    module = snn.AUGRU(6, hidden, mode=mode, dtype=dtype)
    arrays = {f"gru.{name}": p.numpy() for name, p in module.state_dict().items()}
    layer = sf.AUGRU.from_state_dict(arrays, mode=mode, precision=precision, prefix="gru.")
    x, attention = torch.randn(7, 3, 6, dtype=dtype), torch.rand(7, 3, dtype=dtype)
    y, h_n = layer(x.numpy(), attention.numpy())
    assert y.dtype == h_n.dtype == x.numpy().dtype
    expected = module(x, attention)[0].detach().numpy()
    if precision.startswith("float"):
        np.testing.assert_array_equal(y, expected)
    else:
        assert relative_error(y, expected) < 0.05
    state = None
    for t in range(7):
        y_t, state = layer(x[t : t + 1].numpy(), attention[t : t + 1].numpy(), state)
        np.testing.assert_array_equal(y_t[0], y[t])
    np.testing.assert_array_equal(state, h_n)
    rows = x.transpose(0, 1).reshape(-1, 6).numpy(), attention.T.reshape(-1).numpy()
    last, _ = layer(*rows, offsets=[0, 7, 14, 21], outputs="last")
    np.testing.assert_array_equal(last, h_n[0])


def test_bad_numbers_stay_in_their_session():
    module, (x, attention, h) = problem("augru_tf", 6, 21, 4, 5, torch.float32)
    clean = ours(module, x, attention, h)[0]
    attention[1, 2], attention[2, 3] = float("nan"), float("inf")
    y = ours(module, x, attention, h)[0]
    assert y[1:, 2].isnan().all()
    for b in (0, 1, 4):
        assert torch.equal(y[:, b], clean[:, b])


def test_no_events_and_no_sessions():
    module = snn.AUGRU(6, 21)
    h_0 = torch.randn(1, 2, 21)
    x, attention = torch.zeros(0, 6, requires_grad=True), torch.zeros(0, requires_grad=True)
    y, h_n = module(x, attention, h_0, offsets=torch.tensor([0, 0, 0]))
    assert y.shape == (0, 21)
    assert torch.equal(h_n, h_0)
    (y.sum() + h_n.sum()).backward()
    assert attention.grad is not None
    assert attention.grad.shape == (0,)
    assert all(not p.grad.any() for p in module.parameters())
    assert module(x, attention, offsets=torch.tensor([0]))[1].shape == (1, 0, 21)


@pytest.mark.parametrize("mode", MODES)
def test_compile_and_operator(mode):
    module, (x, attention, h) = problem(mode, 6, 12, 4, 3, torch.float32)
    attention.requires_grad_(True)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    y = module(x, attention)[0]
    (grad,) = torch.autograd.grad(y.square().sum(), attention)
    y_compiled = compiled(x, attention)[0]
    assert torch.equal(y_compiled, y)
    assert torch.equal(torch.autograd.grad(y_compiled.square().sum(), attention)[0], grad)
    if mode == "aigru":
        return
    weights = [p.detach().requires_grad_(True) for p in module.parameters()]
    torch.library.opcheck(
        torch.ops.seqrec_fast.rnn_forward.default,
        (mode, x, h, None, *weights, None, None, None, None, False, False, True),
        {"attention": attention},
    )


def test_autocast_rounds_the_products():
    module, (x, attention, h) = problem("augru_paper", 24, 48, 6, 5, torch.float32)
    y, _ = ours(module, x, attention, h)
    with torch.autocast("cpu", torch.bfloat16):
        y_reduced, _ = ours(module, x, attention, h)
    assert 0 < relative_error(y_reduced.float().detach(), y.detach()) < 2e-2


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="AUGRU: mode is 'gru'; expected augru_paper, augru_tf"):
        snn.AUGRU(3, 4, mode="gru")
    module = snn.AUGRU(3, 4)
    x = torch.zeros(5, 2, 3)
    with pytest.raises(ValueError, match=r"AUGRU: attention has shape \(2, 5\); expected \(5, 2\)"):
        module(x, torch.zeros(2, 5))
    with pytest.raises(
        ValueError, match=r"AUGRU: attention is torch.int64; expected torch.float32"
    ):
        module(x, torch.zeros(5, 2, dtype=torch.int64))
    arrays = {name: p.numpy() for name, p in module.state_dict().items()}
    layer = sf.AUGRU.from_state_dict(arrays)
    with pytest.raises(TypeError, match="AUGRU: attention is float64; expected float32"):
        layer(x.numpy(), np.zeros((5, 2)))
    with pytest.raises(ValueError, match=r"AUGRU: attention has shape \(5,\); expected \(5, 2\)"):
        layer(x.numpy(), np.zeros(5, np.float32))
    with pytest.raises(
        ValueError, match=r"AUGRU.from_state_dict: mode is 'x'; expected augru_paper"
    ):
        sf.AUGRU.from_state_dict(arrays, mode="x")
    layers = {name: p.numpy() for name, p in torch.nn.GRU(3, 4, 2).state_dict().items()}
    with pytest.raises(ValueError, match=r"AUGRU.from_state_dict: arrays have 2 layers"):
        sf.AUGRU.from_state_dict(layers)
    reduced = sf.AUGRU.from_state_dict(
        {name: p.numpy() for name, p in snn.AUGRU(3, 20).state_dict().items()}, precision="int8"
    )
    with pytest.raises(ValueError, match=r"attention has the value 1.5; expected 0 to 1 because"):
        reduced(x.numpy(), np.full((5, 2), 1.5, np.float32))
