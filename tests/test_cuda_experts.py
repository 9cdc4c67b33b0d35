"""The CUDA kernels of experts, on emulated threads, against those of the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import test_grouped_linear as linear_cases
import test_multi_gate as mixture_cases
from cuda_kernels import run_emulated
from rnn_cases import ATTENTION_CELLS, CELLS, make_weights, relative_error
from seqrec_fast.nn import (
    _grouped_linear_cuda,
    _rnn_cuda_ops,
    _rnn_ops,
    grouped_linear,
    multi_gate,
)

pytestmark = pytest.mark.usefixtures("emulated_kernels")
DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
# Parts of a large group are summed; beside groups of one part and of none.
SHAPES = [*linear_cases.SHAPES, ([3, 1100, 0, 1024], 5, 3)]
# Events of three experts for eleven sequences each: more than a tile has rows.
LENGTHS = ((3, 0, 5, 1, 4, 4, 2, 0, 6, 1, 3), (0,) * 11, (1, 2, 0, 0, 0, 7, 1, 1, 0, 2, 0))


def assert_close(found, expected, tolerance):
    for ours, theirs in zip(found, expected, strict=True):
        scale = max(1.0, theirs.abs().max().item()) if theirs.numel() else 1.0
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@DTYPES
def test_grouped_linear(shape, dtype):
    x, weight, bias, offsets = linear_cases.problem(*shape, dtype)
    tolerance = 3e-5 if dtype == torch.float32 else 1e-12
    for given in (bias, None):
        expected = grouped_linear._grouped_linear_cpu(x, weight, given, offsets)
        found = grouped_linear._on_cuda(x, weight, given, offsets)
        assert_close([found], [expected], tolerance)
    grad = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1)).to(dtype)
    for needed in ((True, True, True), (False, True, False), (False, False, True)):
        arguments = (grad, x, weight, offsets, *needed)
        found = grouped_linear._grad_on_cuda(*arguments)
        assert_close(found, grouped_linear._grouped_linear_grad_cpu(*arguments), tolerance)
    for again, first in zip(grouped_linear._grad_on_cuda(*arguments), found, strict=True):
        assert torch.equal(again, first)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_grouped_linear_on_tensor_cores(shape):
    """Of values rounded to bfloat16: products are exact in float32, sums in another order."""
    x, weight, bias, offsets = linear_cases.problem(*shape, torch.float32)
    grad = torch.randn(len(x), shape[2], generator=torch.Generator().manual_seed(1))
    near = [t.bfloat16().float() for t in (x, weight, grad)]
    found = grouped_linear._on_cuda(x, weight, bias, offsets, "bfloat16")
    expected = grouped_linear._grouped_linear_cpu(*near[:2], bias, offsets)
    assert_close([found], [expected], 3e-5)
    needed = (True, True, True)
    found = grouped_linear._grad_on_cuda(grad, x, weight, offsets, *needed, "bfloat16")
    expected = grouped_linear._grouped_linear_grad_cpu(near[2], *near[:2], offsets, *needed)
    assert_close(found, expected, 3e-5)


def test_a_row_of_a_group_does_not_depend_on_the_others():
    """Nor on how many rows there are, by which tiles are chosen."""
    x, weight, bias, offsets = linear_cases.problem([3, 1200], 20, 70, torch.float32)
    one = x[700:701], weight[1:], bias[1:], torch.tensor([0, 1])
    for precision in ("full", "bfloat16"):
        whole = grouped_linear._on_cuda(x, weight, bias, offsets, precision)
        alone = grouped_linear._on_cuda(*one, precision)
        assert torch.equal(alone, whole[700:701])


@pytest.mark.parametrize("offsets", [[0, 99, 3], [-5, 2, 3], [2, 1, 3], [0, 9000, -9000]])
def test_wrong_group_offsets_touch_nothing_else(offsets):
    x, weight, _, _ = linear_cases.problem([1, 2], 5, 4, torch.float32)
    offsets = torch.tensor(offsets)
    y = grouped_linear._on_cuda(x, weight, None, offsets)
    grouped_linear._grad_on_cuda(y, x, weight, offsets, True, True, True)


@pytest.mark.parametrize("shape", mixture_cases.SHAPES, ids=str)
@DTYPES
def test_multi_gate_mixture(shape, dtype):
    outputs, logits = mixture_cases.problem(*shape, dtype)
    if logits.numel() > 4:
        logits[0, 0] = -torch.inf
        logits[0, -1, 0] = -torch.inf
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    expected = multi_gate._mixture_cpu(outputs, logits)
    assert_close([multi_gate._mixture_cuda(outputs, logits)], [expected], tolerance)
    grad = torch.linspace(-1, 1, expected.numel(), dtype=dtype).reshape(expected.shape)
    found = multi_gate._mixture_grad_cuda(grad, outputs, logits)
    assert_close(found, multi_gate._mixture_grad_cpu(grad, outputs, logits), tolerance)


class Experts:
    """The arguments of the recurrent operators for a layer per expert."""

    def __init__(self, cell, hidden, dtype, bias=True, input_size=3, precision="full", reset=True):
        rng = np.random.default_rng(7)
        self.cell, self.count, self.precision = cell, len(LENGTHS), precision
        self.batch = len(LENGTHS[0])

        def tensor(values):
            return torch.from_numpy(np.ascontiguousarray(values)).to(dtype)

        each = [make_weights(rng, cell, input_size or 1, hidden) for _ in LENGTHS]
        self.weights = [tensor(np.stack([w[name] for w in each])) for name in
                        ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]  # fmt: skip
        if not bias:
            self.weights[2:] = [None, None]
        if not input_size:
            self.weights[0] = None
            input_size = self.weights[1].shape[1]
        lengths = np.array(LENGTHS).reshape(-1)
        self.offsets = torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)]))
        events, sessions = int(self.offsets[-1]), len(lengths)
        self.x = tensor(rng.normal(size=(events, input_size)))
        self.reset = torch.from_numpy(rng.random(events) < 0.2) if reset else None
        self.h_0 = tensor(rng.normal(size=(sessions, hidden)))
        self.c_0 = tensor(rng.normal(size=(sessions, hidden))) if cell == "lstm" else None
        self.attention = tensor(rng.random(events)) if cell in ATTENTION_CELLS else None
        rows = (events, sessions, sessions)
        self.seeds = [tensor(rng.normal(size=(n, hidden))) for n in rows]
        if cell != "lstm":
            self.seeds[2] = None

    def results(self, forward, backward):
        inputs = (self.x, self.h_0, self.c_0, *self.weights, None)
        layout = (self.offsets, None, self.reset, False, False)
        options = {"attention": self.attention, "precision": self.precision}
        call = (self.cell, *inputs, *layout, True)
        y, h_n, c_n, saved = forward(*call, **options)
        grads = backward(*self.seeds, y, saved, True, True, True, *call, **options)
        return [y, h_n, c_n, *grads]

    def emulated(self):
        return self.results(_rnn_cuda_ops.forward, _rnn_cuda_ops.backward)

    def on_cpu(self):
        return self.results(_rnn_ops.rnn_forward_cpu, _rnn_ops.rnn_backward_cpu)


# With weights in the shared memory of one block and, as emulated, of several.
@pytest.mark.parametrize("hidden", [5, 33, 90])
@pytest.mark.parametrize("cell", [*CELLS, *ATTENTION_CELLS])
def test_recurrent_experts(cell, hidden):
    dtype = torch.float64 if hidden == 5 else torch.float32
    call = Experts(cell, hidden, dtype, bias=hidden != 33)
    assert_close(call.emulated(), call.on_cpu(), 1e-11 if hidden == 5 else 5e-5)


@pytest.mark.parametrize("cell", [*CELLS, *ATTENTION_CELLS])
def test_recurrent_experts_whose_weights_no_block_keeps(monkeypatch, cell):
    monkeypatch.setattr(_rnn_cuda_ops, "takes_steps", lambda weight, dtype, batch: batch > 0)
    call = Experts(cell, 5, torch.float64)
    assert_close(call.emulated(), call.on_cpu(), 1e-11)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_recurrent_experts_of_ready_gates(cell):
    """With no product before the loop, an expert is bit for bit a layer of its own."""
    call = Experts(cell, 33, torch.float32, input_size=0, reset=False)
    assert_close(call.emulated(), call.on_cpu(), 5e-5)
    call.weights[2] = None
    whole = call.emulated()
    first, last = call.offsets[2 * call.batch], call.offsets[-1]
    one = slice(2 * call.batch, None)
    alone, _, _, _ = _rnn_cuda_ops.forward(
        cell, call.x[first:last], call.h_0[one], None if call.c_0 is None else call.c_0[one],
        *(None if w is None else w[2] for w in call.weights), None,
        call.offsets[one] - first, None, None, False, False, True,
    )  # fmt: skip
    assert torch.equal(alone, whole[0][first:last])


@pytest.mark.parametrize(
    ("cell", "hidden"),
    [("gru", 96), ("gru", 16), ("gru_reset_before", 16), ("lstm", 16), ("augru_tf", 96)],
)
def test_recurrent_experts_in_bfloat16(cell, hidden):
    call = Experts(cell, hidden, torch.float32, precision="bfloat16")
    found, expected = call.emulated(), call.on_cpu()
    call.precision = "full"
    exact = call.emulated()
    for ours, theirs, truth in zip(found, expected, exact, strict=True):
        assert ours.isfinite().all()
        if truth.numel():
            error = relative_error(theirs, truth)
            assert relative_error(ours, truth) <= max(2 * error, 2.0**-8) + 1e-3
    assert not torch.equal(found[0], exact[0])


def test_no_sessions_and_no_events():
    call = Experts("gru", 5, torch.float32)
    call.offsets, call.x, call.reset = torch.zeros(1, dtype=torch.long), call.x[:0], None
    call.h_0, call.seeds = call.h_0[:0], [s if s is None else s[:0] for s in call.seeds]
    assert_close(call.emulated(), call.on_cpu(), 1e-6)
    call = Experts("gru", 5, torch.float32)
    call.offsets, call.x, call.reset = torch.zeros_like(call.offsets), call.x[:0], None
    call.seeds[0] = call.seeds[0][:0]
    found = call.emulated()
    assert torch.equal(found[1], call.h_0)
    assert_close(found, call.on_cpu(), 1e-6)


def test_errors_name_what_came():
    call = Experts("gru", 5, torch.float32)
    with pytest.raises(ValueError, match="offsets are missing; expected those of all experts"):
        _rnn_cuda_ops.forward("gru", call.x[:, None], call.h_0, None, *call.weights, *(None,) * 4,
                False, False, False)  # fmt: skip
    call.weights[3] = call.weights[3][:2]
    with pytest.raises(ValueError, match=r"bias_hh has shape \(2, 15\); expected \(3, 15\)"):
        call.emulated()
    x, offsets = torch.zeros(3, 2), torch.tensor([0, 3])
    many, all_of_one = torch.zeros(2000, 2), torch.tensor([0, 2000])
    with pytest.raises(ValueError, match=r"grouped_linear: workspace has 0 entries; expected \d+"):
        run_emulated("grouped_linear_weight_grad", x.dtype, x, many, all_of_one, many,
                     torch.zeros(2, 2), None, None)  # fmt: skip
    with pytest.raises(ValueError, match=r"weight has shape \(4, 2\); expected \(5, 2\)"):
        run_emulated("grouped_linear", x.dtype, x, x, torch.zeros(4, 2), None, offsets,
                     torch.zeros(3, 5), "full")  # fmt: skip
    linear = linear_cases.problem([3], 2, 2, torch.float64)
    with pytest.raises(ValueError, match="precision is not full; expected that, or bfloat16"):
        grouped_linear._on_cuda(*linear, "bfloat16")
    with pytest.raises(ValueError, match="precision is 'bfloat16'; expected 'full' on the CPU"):
        torch.ops.seqrec_fast.grouped_linear(*linear, "bfloat16")


def on_fake_cuda(*arguments):
    """Tensors of the same shapes on a GPU that need not exist."""
    return tuple(
        torch.empty(a.shape, dtype=a.dtype, device="cuda") if isinstance(a, torch.Tensor) else a
        for a in arguments
    )


def assert_told(operator, found, *arguments):
    with FakeTensorMode(), torch.no_grad():
        told = getattr(torch.ops.seqrec_fast, operator)(*on_fake_cuda(*arguments))
    told = told if isinstance(told, tuple) else (told,)
    for expected, tensor in zip(told, found, strict=True):
        assert (expected.shape, expected.dtype) == (tensor.shape, tensor.dtype)
        assert expected.device.type == "cuda"


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_shapes_that_a_compiler_is_told(cell):
    call = Experts(cell, 33, torch.float32)
    found = call.emulated()
    inputs = (call.x, call.h_0, call.c_0, *call.weights, None)
    layout = (call.offsets, None, call.reset, False, False)
    arguments = (cell, *inputs, *layout, True)
    saved = _rnn_cuda_ops.forward(*arguments)[3]
    assert_told("rnn_forward", [*found[:3], saved], *arguments)
    given = (*call.seeds, found[0], saved, True, True, True)
    assert_told("rnn_backward", found[3:], *given, *arguments)
    x, weight, bias, offsets = linear_cases.problem([3, 2], 5, 4, torch.float32)
    y = grouped_linear._on_cuda(x, weight, bias, offsets)
    assert_told("grouped_linear", [y], x, weight, bias, offsets)
    arguments = (y, x, weight, offsets, True, False, True)
    assert_told("grouped_linear_grad", grouped_linear._grad_on_cuda(*arguments), *arguments)
    outputs, logits = mixture_cases.problem(3, 2, 5, 4, torch.float32)
    mixture = multi_gate._mixture_cuda(outputs, logits)
    assert_told("multi_gate_mixture", [mixture], outputs, logits)
    arguments = (mixture, outputs, logits)
    assert_told("multi_gate_mixture_grad", multi_gate._mixture_grad_cuda(*arguments), *arguments)


def test_sums_of_groups_in_bfloat16_are_of_full_numbers():
    rows = torch.full((3, 4), 1.001)
    sums = _grouped_linear_cuda.group_sums(rows, torch.tensor([0, 1, 3]))
    torch.testing.assert_close(sums, torch.tensor([[1.001], [2.002]]).expand(2, 4))
