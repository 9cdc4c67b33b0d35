"""The CUDA kernels of recurrent layers, on emulated threads, against those of the CPU."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from cuda_rnn_cases import LENGTHS, Call, assert_same
from rnn_cases import ATTENTION_CELLS, CELLS, relative_error
from seqrec_fast.nn import _rnn_cuda_ops

pytestmark = pytest.mark.usefixtures("emulated_kernels")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("hidden", [1, 5, 33])
@pytest.mark.parametrize("cell", [*CELLS, *ATTENTION_CELLS])
def test_equals_the_cpu(cell, hidden, dtype):
    assert_same(Call(cell, hidden, dtype))


# Weights in the shared memory of two or four blocks, as emulated, or in none.
@pytest.mark.parametrize("hidden", [90, 101, 129])
@pytest.mark.parametrize("cell", [*CELLS, *ATTENTION_CELLS])
def test_weights_that_do_not_fit_one_block(cell, hidden):
    assert_same(Call(cell, hidden, torch.float32, "tiles" if hidden == 101 else "few"))


@pytest.mark.parametrize("cell", CELLS)
def test_many_units_in_float64(cell):
    assert_same(Call(cell, 129, torch.float64, "few"))


@pytest.mark.parametrize("layout", [*LENGTHS, "time_first", "batch_first", "packed"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "lstm", "agru"])
def test_layouts(cell, reverse, layout):
    assert_same(Call(cell, 6, torch.float64, layout, reverse))


@pytest.mark.parametrize("cell", CELLS)
def test_without_optional_parts(cell):
    assert_same(Call(cell, 6, torch.float64, bias=False, states=False, reset=False))
    assert_same(Call(cell, 6, torch.float64, input_size=0))


def test_inputs_in_any_order_of_memory():
    call = Call("lstm", 6, torch.float64, "batch_first")
    call.x = call.x.transpose(0, 1).contiguous().transpose(0, 1)
    for name in ("h_0", "c_0"):
        setattr(call, name, getattr(call, name).t().contiguous().t())
    call.seeds = [seed.transpose(0, 1).contiguous().transpose(0, 1) for seed in call.seeds]
    assert_same(call)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_more_units_than_threads(monkeypatch, cell):
    monkeypatch.setattr(_rnn_cuda_ops, "takes_steps", lambda *_: False)
    assert_same(Call(cell, 515, torch.float32, "one"))


# Units of tiles and pairs filled or not; weights in one block, in several and in none.
@pytest.mark.parametrize("hidden", [9, 16, 33, 96, 130, 200])
@pytest.mark.parametrize("cell", [*CELLS, *ATTENTION_CELLS])
def test_bfloat16_on_tensor_cores(cell, hidden):
    call = Call(
        cell, hidden, torch.float32, "tiles" if hidden < 96 else "few", precision="bfloat16"
    )
    found = call.emulated()
    expected = call.on_cpu()
    call.precision = "full"
    exact = call.emulated()
    for name, value in expected.items():
        assert found[name].shape == value.shape, name
        if value.numel():
            assert found[name].isfinite().all(), name
            error = relative_error(value, exact[name])
            assert relative_error(found[name], exact[name]) <= max(2 * error, 2.0**-8) + 1e-3, name
    assert not torch.equal(found["y"], exact["y"])


def test_two_runs_give_the_same_bits():
    call = Call("augru_paper", 70, torch.float32)
    first, second = call.emulated(), call.emulated()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("hidden", [33, 90, 101, 129])
@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "lstm", "rnn_tanh"])
def test_a_session_does_not_depend_on_its_batch(cell, hidden):
    """Neither on how many sessions a block has nor on where the weights are."""
    call = Call(cell, hidden, torch.float32, input_size=0)
    whole = call.emulated()
    begin, end = call.layout[0][8:10].tolist()
    call.layout = (torch.tensor([0, end - begin]), None, call.layout[2][begin:end], False, False)
    call.x, call.h_0 = call.x[begin:end], call.h_0[8:9]
    call.c_0 = None if call.c_0 is None else call.c_0[8:9]
    call.seeds = [call.seeds[0][begin:end], *(s if s is None else s[8:9] for s in call.seeds[1:])]
    alone = call.emulated()
    for name in ("y", "dx"):
        torch.testing.assert_close(alone[name], whole[name][begin:end], rtol=0, atol=0)


@pytest.mark.parametrize("cell", ["gru", "gru_reset_before", "lstm", "rnn_tanh"])
@pytest.mark.parametrize("hidden", [5, 33])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_shapes_that_a_compiler_is_told(cell, hidden, dtype):
    call = Call(cell, hidden, dtype, projection=4 if cell == "lstm" else 0)
    arguments = (cell, call.x, call.h_0, call.c_0, *call.weights, *call.layout, True)
    with FakeTensorMode(), torch.no_grad():
        on_cuda = (
            torch.empty(a.shape, dtype=a.dtype, device="cuda") if isinstance(a, torch.Tensor) else a
            for a in arguments
        )
        told = torch.ops.seqrec_fast.rnn_forward(*on_cuda)
    for expected, found in zip(told, _rnn_cuda_ops.forward(*arguments), strict=True):
        assert (expected.shape, expected.dtype) == (found.shape, found.dtype)


def test_offsets_out_of_range_touch_nothing():
    call = Call("gru", 5, torch.float64, "few", reset=False)
    call.layout = (torch.tensor([0, 2, 900, -4]), *call.layout[1:])
    y, h_n, *_ = _rnn_cuda_ops.forward(
        call.cell, call.x, call.h_0, None, *call.weights, *call.layout, False
    )
    torch.testing.assert_close(h_n[1:], call.h_0[1:])
    assert y[2:].isnan().all()


def test_errors_name_what_came():
    call = Call("gru", 5, torch.float32)
    call.h_0 = call.h_0[:3]
    with pytest.raises(ValueError, match=r"h_0 has shape \(3, 5\); expected \(11, 5\)"):
        call.emulated()
    call = Call("agru", 5, torch.float32)
    call.attention = None
    with pytest.raises(ValueError, match="attention is missing"):
        call.emulated()
    call = Call("gru", 5, torch.float32)
    for option in ({"precision": "int8"},):
        with pytest.raises(NotImplementedError, match="not on CUDA yet"):
            _rnn_cuda_ops.forward(
                "gru", call.x, call.h_0, None, *call.weights, *call.layout, False,
                **option,
            )  # fmt: skip
