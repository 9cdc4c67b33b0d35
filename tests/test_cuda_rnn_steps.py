"""Recurrent layers on emulated threads whose weights no block keeps: a product per step."""

from __future__ import annotations

import importlib

import pytest
import torch

from cuda_rnn_cases import LENGTHS, NOISES, Call, assert_same
from emulated_device import cuda_device  # noqa: F401 - a fixture
from rnn_cases import ATTENTION_CELLS, CELLS, relative_error
from seqrec_fast import nn
from seqrec_fast.nn import _devices, _rnn_cuda_ops, _rnn_cuda_steps

_ALL = [*CELLS, *ATTENTION_CELLS]


@pytest.fixture(autouse=True)
def by_steps(request, monkeypatch):
    """Let all sizes take this way."""
    if "cuda_device" not in request.fixturenames:
        request.getfixturevalue("emulated_kernels")
    monkeypatch.setattr(_rnn_cuda_ops, "takes_steps", lambda weight, dtype, batch: batch > 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hidden", [1, 6, 515])
@pytest.mark.parametrize("cell", _ALL)
def test_equals_the_cpu(cell, hidden, dtype):
    assert_same(Call(cell, hidden, dtype, "tiles" if hidden < 515 else "few"))


@pytest.mark.parametrize("layout", [*LENGTHS, "time_first", "batch_first", "packed"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "lstm", "agru"])
def test_layouts(cell, reverse, layout):
    assert_same(Call(cell, 6, torch.float64, layout, reverse))


@pytest.mark.parametrize("cell", _ALL)
def test_without_optional_parts_and_with_noise(cell):
    assert_same(Call(cell, 6, torch.float64, bias=False, states=False, reset=False))
    for noise in NOISES:
        assert_same(Call(cell, 5, torch.float64, reverse=True, noise=noise))


def test_projection():
    assert_same(Call("lstm", 9, torch.float64, projection=4))
    assert_same(Call("lstm", 9, torch.float64, "packed", projection=4, noise=NOISES[0]))


@pytest.mark.parametrize("cell", _ALL)
def test_16_bit_factors(cell):
    exact = Call(cell, 40, torch.float32).emulated()
    for dtype, precision in (
        (torch.float32, "bfloat16"), (torch.bfloat16, "full"), (torch.float16, "full"),
    ):  # fmt: skip
        found = Call(cell, 40, dtype, precision=precision).emulated()
        for name, value in exact.items():
            assert found[name].dtype == dtype, name
            if value.numel() and (cell != "rnn_relu" or name in ("y", "h_n")):
                assert relative_error(found[name].float(), value) < 0.03, name


@pytest.mark.parametrize("cell", ["GRU", "LSTM"])
@pytest.mark.usefixtures("cuda_device")
def test_layers_so_large(monkeypatch, cell):
    """The whole way, and nothing forced."""
    monkeypatch.setattr(_rnn_cuda_ops, "takes_steps", _rnn_cuda_steps.takes_steps)
    torch.manual_seed(0)
    called = []
    part = _rnn_cuda_steps.StepLoop._part
    monkeypatch.setattr(
        _rnn_cuda_steps.StepLoop, "_part", lambda *a: (called.append(a[1]), part(*a))
    )
    layer = getattr(nn, cell)(3, 900)
    x, offsets = torch.randn(9, 3), torch.tensor([0, 4, 4, 9])
    expected = layer(x, offsets=offsets)[0]
    expected.square().sum().backward()
    grads = [p.grad.clone() for p in layer.parameters()]
    layer.to("cuda").zero_grad()
    y = layer(x.to("cuda"), offsets=offsets.to("cuda"))[0]
    torch.testing.assert_close(y.cpu(), expected)
    y.square().sum().backward()
    for parameter, grad in zip(layer.parameters(), grads, strict=True):
        torch.testing.assert_close(parameter.grad.cpu(), grad, rtol=1e-3, atol=1e-4)
    assert called == ["start", *["first"] * 5, "start", *["first"] * 5, "end"]


def test_offsets_out_of_range_touch_nothing():
    call = Call("gru", 5, torch.float64, "few", reset=False)
    call.layout = (torch.tensor([0, 2, 900, -4]), *call.layout[1:])
    y, h_n, *_ = _rnn_cuda_ops.forward(
        call.cell, call.x, call.h_0, None, *call.weights, *call.layout, False
    )
    torch.testing.assert_close(h_n[1:], call.h_0[1:])
    assert y[2:].isnan().all()
    assert y[:2].isfinite().all()


def test_sizes_that_take_this_way(monkeypatch):
    module = importlib.import_module("seqrec_fast._cuda_emulated")
    monkeypatch.setattr(_devices, "_cuda", module)
    takes = _rnn_cuda_steps.takes_steps

    def sizes(hidden: int, dtype: torch.dtype) -> bool:
        return takes(torch.empty(3 * hidden, hidden, device="meta"), dtype, 1)

    assert not sizes(590, torch.bfloat16)
    assert sizes(592, torch.bfloat16)
    assert not sizes(417, torch.float32)
    assert sizes(419, torch.float32)
    assert not takes(torch.empty(3000, 1000, device="meta"), torch.float32, 0)
    # what the blocks of a larger GPU's clusters keep
    module.set_device(shared_bytes=227 << 10, most_cluster=16)
    try:
        assert not sizes(680, torch.bfloat16)
        assert sizes(700, torch.bfloat16)
    finally:
        module.set_device()


def test_errors_name_what_came():
    module = importlib.import_module("seqrec_fast._cuda_emulated")
    sums, state = torch.zeros(3, 5), torch.zeros(3, 5)

    def call(*step):
        def array(tensor):
            dtype = str(tensor.dtype).removeprefix("torch.")
            return module.DeviceArray(tensor.data_ptr(), dtype, tuple(tensor.shape))

        step = tuple(array(s) if isinstance(s, torch.Tensor) else s for s in step)
        module.rnn_forward_f32(
            "rnn_tanh", 1, 3, 1, True, None, None, None, None, None, None, array(sums), None, None,
            None, None, None, (0.0, 0.0, None), False, array(sums), array(state), None, None, step,
            0,
        )  # fmt: skip

    left = torch.zeros(3, 5)
    call("first", 0, 3, 3, sums, left, None, state, None)
    for step, expected in (
        (("middle", 0, 3, 3, sums, left, None, state, None), "part is 'middle'; expected start"),
        (("end", 0, 3, 3, sums, left, None, state, None), "there is no end of it"),
        (("second", 0, 3, 3, sums, left, None, state, None), "a step has one part"),
        (("first", 9, 3, 3, sums, left, None, state, None), "step 9; expected -1 to 3"),
        (("first", 0, 4, 3, sums, left, None, state, None), "4 rows; expected up to 3"),
        (("first", 0, 3, 2, sums, left, None, state, None), r"sums has shape \(3, 5\); expected"),
        (("first", 0, 3, 3, None, left, None, state, None), "sums is missing"),
        (("first", 0, 3, 3, sums, None, None, state, None), "expected one of left and left_packed"),
        (("first", 0, 3, 3, sums, left, None, state, state), "other does not belong here"),
    ):
        with pytest.raises(ValueError, match=expected):
            call(*step)
