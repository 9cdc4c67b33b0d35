"""
Cross-entropy on tensor cores, on emulated threads, against float64 truth of bfloat16 values.

Sums are float32, so losses and the gradient of the bias are as exact as float32. For the gradients
of the tables, those of scores are rounded to bfloat16: an error of up to 2^-8 of every term.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import test_nn_losses as cases
from cuda_kernels import emulated
from cuda_losses import emulate_losses
from loss_cases import tables
from seqrec_fast.nn import _cross_entropy_tensor, _devices, _loss_cuda
from seqrec_fast.nn import functional as SF

pytestmark = pytest.mark.usefixtures(emulate_losses.__name__)
FULL, ROUNDED = 2e-5, 1.01 * 2**-8


def in_bfloat16(*args, **options):
    with torch.autocast("cpu", torch.bfloat16):
        return SF.linear_cross_entropy(*args, **options)


def assert_equals_truth(hidden, weight, bias, wanted, *, scale=1.0, softcap=None, **options):
    """Compare losses and gradients; every entry of these by what its own terms allow."""
    h, w = (t.detach().bfloat16().double() for t in (hidden, weight))
    scores = (scale * (h @ w.T) + bias.detach().double()).requires_grad_()
    logits = scores if softcap is None else softcap * torch.tanh(scores / softcap)
    truth = F.cross_entropy(logits, wanted, **options)
    (grad,) = cases.gradients(truth, (scores,))
    ours = in_bfloat16(hidden, weight, wanted, bias, scale=scale, softcap=softcap, **options)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours.double(), truth, rtol=FULL, atol=FULL)
    dhidden, dweight, dbias = cases.gradients(ours, (hidden, weight, bias))
    for found, exact, terms in (
        (dhidden, scale * grad @ w, abs(scale) * grad.abs() @ w.abs()),
        (dweight, scale * grad.T @ h, abs(scale) * grad.T.abs() @ h.abs()),
        (dbias, grad.sum(0), 0 * grad.sum(0)),
    ):
        assert found.dtype == torch.float32
        assert ((found - exact).abs() <= ROUNDED * terms + FULL * exact.abs().max()).all()


@pytest.mark.parametrize(
    ("sizes", "options"),
    [
        ((33, 201, 17), {}),
        ((1, 1, 1), {}),
        ((140, 65, 32), {"label_smoothing": 0.1}),
        ((50, 130, 64), {"ignore_index": 3}),
        ((40, 90, 100), {"reduction": "sum", "scale": -0.3}),
        ((7, 64, 200), {"reduction": "none"}),
        ((40, 70, 24), {"scale": 1.7, "softcap": 5.0, "label_smoothing": 0.2}),
    ],
    ids=str,
)
def test_equals_truth(sizes, options):
    hidden, weight, bias, wanted = tables(*sizes, dtype=torch.float32)
    if len(wanted) > 1:
        wanted[0] = 3
    assert_equals_truth(hidden, weight, bias, wanted, **options)


@pytest.mark.parametrize("sizes", [(5, 530, 8), (530, 5, 8)], ids=str)
def test_ranges_that_are_added(sizes):
    assert _devices.cuda_function("cross_entropy_tensor_grad_workspace")(*sizes) > 0
    hidden, weight, bias, wanted = tables(*sizes, dtype=torch.float32)
    assert_equals_truth(hidden, weight, bias, wanted)


def test_more_columns_than_registers_are_computed_in_float32():
    hidden, weight, bias, wanted = tables(9, 40, 257, torch.float32)
    inputs = (hidden, weight, bias)
    ours = in_bfloat16(hidden, weight, wanted, bias)
    exact = SF.linear_cross_entropy(hidden, weight, wanted, bias)
    assert torch.equal(ours, exact)
    found, expected = cases.gradients(ours, inputs), cases.gradients(exact, inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("dim", [16, 13, 257])
def test_gradients_have_the_dtypes_of_the_tables(dim):
    hidden, weight, bias, wanted = (t.detach() for t in tables(20, 70, dim, torch.float32))
    row_grad = torch.linspace(-1, 1, 20)

    def run(hidden, weight):
        options = (0.5, 0.0, 0.1, "bfloat16")
        loss, log_sum = _loss_cuda.cross_entropy_cuda(hidden, weight, wanted, bias, *options)
        gradients = [torch.full_like(t, math.nan) for t in (hidden, weight, bias)]
        _loss_cuda.cross_entropy_grad_cuda(
            hidden, weight, wanted, bias, log_sum, row_grad, *options, *gradients
        )
        return loss, *gradients

    low_hidden, low_weight = hidden.bfloat16(), weight.bfloat16()
    full, low = run(low_hidden.float(), low_weight.float()), run(low_hidden, low_weight)
    assert [t.dtype for t in low] == [torch.float32, torch.bfloat16, torch.bfloat16, torch.float32]
    for a, b in zip(full, low, strict=True):
        assert torch.equal(a.to(b.dtype), b)
    mixed = run(hidden.bfloat16(), weight)
    assert [t.dtype for t in mixed[1:3]] == [torch.bfloat16, torch.float32]


def test_hostile_values():
    hidden = torch.eye(4).requires_grad_()
    weight = torch.zeros(130, 4)
    weight[7, 0], weight[8, 1] = 2.0**13, -(2.0**13)
    bias = torch.zeros(130)
    bias[100:] = -math.inf
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    wanted = torch.tensor([7, 8, 5, 99])
    inputs = (hidden, weight, bias)
    ours = in_bfloat16(hidden, weight, wanted, bias, reduction="none")
    theirs = F.cross_entropy(hidden @ weight.T + bias, wanted, reduction="none")
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=2e-6)
    found, expected = cases.gradients(ours, inputs), cases.gradients(theirs, inputs)
    cases.assert_close(found, expected, 2**-8)
    assert (found[2][100:] == 0).all()
    assert in_bfloat16(hidden, weight, torch.full((4,), 100), bias) == math.inf
    assert in_bfloat16(hidden, weight, wanted, torch.full((130,), -math.inf)).isnan()


def test_all_logits_equal():
    hidden, weight = torch.zeros(3, 8), torch.randn(1000, 8)
    loss = in_bfloat16(hidden, weight, torch.tensor([0, 500, 999]), torch.full((1000,), -1e4))
    torch.testing.assert_close(loss, torch.tensor(math.log(1000)), rtol=1e-7, atol=1e-3)
    loss = in_bfloat16(hidden, weight, torch.tensor([0, 500, 999]))
    torch.testing.assert_close(loss, torch.tensor(math.log(1000)), rtol=1e-6, atol=0)


def test_values_that_are_not_finite_show():
    with torch.autocast("cpu", torch.bfloat16):
        cases.test_values_that_are_not_finite_show(math.nan)
        cases.test_values_that_are_not_finite_show(math.inf)


def test_rows_that_are_left_out():
    hidden, weight, bias, wanted = tables(20, 300, 9, torch.float32)
    wanted[4] = wanted[17] = -100
    inputs = (hidden, weight, bias)
    expected = cases.gradients(in_bfloat16(hidden, weight, wanted, bias), inputs)
    assert (expected[0][[4, 17]] == 0).all()
    with torch.no_grad():
        hidden[4], hidden[17, 2] = math.nan, math.inf
    found = cases.gradients(in_bfloat16(hidden, weight, wanted, bias), inputs)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    none = torch.full_like(wanted, -100)
    assert in_bfloat16(hidden, weight, none, bias).isnan()  # as torch
    empty = in_bfloat16(hidden[:0], weight, wanted[:0], reduction="sum")
    assert empty == 0
    assert all((g == 0).all() for g in torch.autograd.grad(empty, (weight, hidden)))


def test_missing_gradients_and_no_bias():
    hidden, weight, bias, wanted = tables(6, 50, 8, torch.float32)
    both = torch.autograd.grad(in_bfloat16(hidden, weight, wanted), (hidden, weight))
    alone = torch.autograd.grad(in_bfloat16(hidden, weight.detach(), wanted), hidden)
    assert torch.equal(alone[0], both[0])
    all_of_them = torch.autograd.grad(in_bfloat16(hidden, weight, wanted, bias), bias)
    tables_fixed = in_bfloat16(hidden.detach(), weight.detach(), wanted, bias)
    assert torch.equal(torch.autograd.grad(tables_fixed, bias)[0], all_of_them[0])


def test_two_runs_give_the_same_bits():
    hidden, weight, bias, wanted = tables(70, 530, 33, torch.float32)
    runs = []
    for _ in range(2):
        loss = in_bfloat16(hidden, weight, wanted, bias, reduction="none")
        runs.append((loss, *cases.gradients(loss, (hidden, weight, bias))))
    assert all(torch.equal(a, b) for a, b in zip(*runs, strict=True))


def test_a_target_that_is_no_item_shows():
    hidden, weight, bias, wanted = tables(4, 30, 8, torch.float32)
    wanted[1] = 30
    loss, _ = _loss_cuda.cross_entropy_cuda(hidden, weight, wanted, bias, 1.0, 0.0, 0.0, "bfloat16")
    assert loss.isnan().tolist() == [False, True, False, False]


def test_errors_name_what_came():
    hidden, weight, bias, wanted = (t.detach() for t in tables(4, 30, 16, torch.float32))
    hidden, weight = hidden.bfloat16(), weight.bfloat16()
    loss, log_sum, room = np.empty(4, "f4"), np.empty(4, "f4"), np.empty(640, "u1")

    def run(hidden=hidden, weight=weight, room=room):
        emulated("cross_entropy_tensor", None, hidden, weight, bias, wanted, 1.0, 0.0, 0.0, loss,
                 log_sum, room)  # fmt: skip

    def grad(dhidden, dweight):
        emulated("cross_entropy_tensor_grad", None, hidden, weight, bias, wanted, 1.0, 0.0, 0.0,
                 log_sum, loss, dhidden, dweight, None, room)  # fmt: skip

    run()
    grad(np.empty((4, 13), "f4"), np.empty((30, 13), "f4"))
    with pytest.raises(ValueError, match="hidden has 12 columns; expected a multiple of 8 up to"):
        run(hidden[:, :12], weight[:, :12])
    with pytest.raises(ValueError, match="hidden has 264 columns"):
        run(hidden.repeat(1, 17)[:, :264], weight.repeat(1, 17)[:, :264])
    with pytest.raises(ValueError, match=r"weight has shape \(30, 8\); expected \(30, 16\)"):
        run(weight=weight[:, :8])
    with pytest.raises(ValueError, match="workspace has 3 bytes; expected 64"):
        run(room=room[:3].copy())
    with pytest.raises(ValueError, match="weight does not begin at a multiple of 16 bytes"):
        run(weight=torch.cat([weight.flatten(), weight[0]])[1:481].view(30, 16))
    with pytest.raises(TypeError, match="hidden is float32; expected bfloat16"):
        run(hidden.float())
    with pytest.raises(ValueError, match="dhidden has 17 columns; expected 1 to 16"):
        grad(np.empty((4, 17), "f4"), None)
    with pytest.raises(ValueError, match="dweight has 13 columns; expected 16, as dhidden"):
        grad(np.empty((4, 16), "f4"), np.empty((30, 13), "f4"))


def test_vectors_are_copied_where_kernels_cannot_read_them():
    whole = torch.randn(5, 16).bfloat16()
    assert _cross_entropy_tensor._vectors(whole) is whole
    odd = whole.flatten()[1:73].view(9, 8)
    assert _cross_entropy_tensor._vectors(odd).data_ptr() % 16 == 0
    padded = _cross_entropy_tensor._vectors(whole[:, :13])
    assert torch.equal(padded[:, :13], whole[:, :13])
    assert (padded[:, 13:] == 0).all()
