"""Losses over an item table: equal to the form with all logits, in value and gradients."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import seqrec_fast as sf
from loss_cases import tables
from seqrec_fast.nn import functional as SF

CROSS_ENTROPY_CASES = [
    ((33, 1001, 17), {}),
    ((1, 1, 1), {}),
    ((97, 65, 3), {"label_smoothing": 0.1}),
    ((50, 777, 32), {"ignore_index": 3}),
    ((40, 900, 24), {"reduction": "sum"}),
    ((7, 64, 16), {"reduction": "none"}),
    ((200, 130, 70), {"scale": 1.7, "softcap": 5.0, "label_smoothing": 0.2}),
]


def materialised(hidden, weight, target, bias, *, scale=1.0, softcap=None, **options):
    logits = scale * (hidden @ weight.T) + bias
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return F.cross_entropy(logits, target, **options)


def gradients(loss, inputs):
    upstream = torch.linspace(0.5, 2, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    return torch.autograd.grad((loss * upstream).sum(), inputs)


def assert_close(ours, theirs, rtol):
    for a, b in zip(ours, theirs, strict=True):
        assert (a - b).abs().max() <= rtol * b.abs().max() + 1e-300


@pytest.mark.parametrize(("sizes", "options"), CROSS_ENTROPY_CASES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_cross_entropy_equals_the_materialised_form(target, sizes, options, dtype):
    hidden, weight, bias, wanted = tables(*sizes, dtype=dtype)
    if len(wanted) > 1:
        wanted[0] = 3
    ours = SF.linear_cross_entropy(hidden, weight, wanted, bias, **options)
    truth = [t.detach().double().requires_grad_() for t in (hidden, weight, bias)]
    theirs = materialised(truth[0], truth[1], wanted, truth[2], **options)
    rtol = 1e-11 if dtype == torch.float64 else 1e-5
    assert ours.dtype == dtype
    torch.testing.assert_close(ours.double(), theirs, rtol=rtol, atol=rtol)
    assert_close(gradients(ours, (hidden, weight, bias)), gradients(theirs, truth), 5 * rtol)


def test_cross_entropy_is_as_exact_as_torch():
    hidden, weight, bias, wanted = tables(64, 3000, 96, torch.float32)
    truth = [t.detach().double().requires_grad_() for t in (hidden, weight, bias)]
    exact = gradients(materialised(truth[0], truth[1], wanted, truth[2]), truth)
    inputs = (hidden, weight, bias)
    ours = gradients(SF.linear_cross_entropy(hidden, weight, wanted, bias), inputs)
    theirs = gradients(materialised(hidden, weight, wanted, bias), inputs)
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert (a - c).abs().max() <= 2 * (b - c).abs().max()


def test_cross_entropy_gradcheck():
    hidden, weight, bias, wanted = tables(5, 70, 3)
    wanted[2] = -100
    for options in ({}, {"label_smoothing": 0.2, "softcap": 3.0}, {"reduction": "none"}):
        assert torch.autograd.gradcheck(
            lambda h, w, b, options=options: SF.linear_cross_entropy(h, w, wanted, b, **options),
            (hidden, weight, bias),
        )


def test_one_huge_logit_and_all_equal_and_excluded_items():
    hidden = torch.eye(4).requires_grad_()
    weight = torch.zeros(130, 4)
    weight[7, 0], weight[8, 1] = 1e4, -1e4
    bias = torch.zeros(130)
    bias[100:] = -math.inf
    weight, bias = weight.requires_grad_(), bias.requires_grad_()
    wanted = torch.tensor([7, 8, 5, 99])
    ours = SF.linear_cross_entropy(hidden, weight, wanted, bias, reduction="none")
    theirs = F.cross_entropy(hidden @ weight.T + bias, wanted, reduction="none")
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-6)
    found = gradients(ours, (hidden, weight, bias))
    assert_close(found, gradients(theirs, (hidden, weight, bias)), 1e-6)
    assert (found[2][100:] == 0).all()
    with_lost_target = SF.linear_cross_entropy(hidden, weight, torch.full((4,), 100), bias)
    assert with_lost_target == math.inf
    nothing = SF.linear_cross_entropy(hidden, weight, wanted, torch.full((130,), -math.inf))
    assert nothing.isnan()


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_show(value):
    hidden, weight, bias, wanted = tables(5, 100, 8, torch.float32)
    with torch.no_grad():
        hidden[2, 3] = value
    loss = SF.linear_cross_entropy(hidden, weight, wanted, bias, reduction="none")
    assert loss[2].isnan()
    assert loss[[0, 1, 3, 4]].isfinite().all()


def test_rows_without_a_target():
    hidden, weight, bias, _ = tables(3, 50, 8)
    wanted = torch.full((3,), -100)
    loss = SF.linear_cross_entropy(hidden, weight, wanted, bias, reduction="sum")
    assert loss == 0
    assert all((g == 0).all() for g in torch.autograd.grad(loss, (hidden, weight, bias)))
    assert SF.linear_cross_entropy(hidden, weight, wanted, bias).isnan()  # as torch
    empty = SF.linear_cross_entropy(hidden[:0], weight, wanted[:0], reduction="sum")
    assert empty == 0


def test_leading_dimensions_and_missing_gradients():
    hidden, weight, _, wanted = tables(6, 50, 8)
    flat = SF.linear_cross_entropy(hidden, weight, wanted, reduction="none")
    shaped = SF.linear_cross_entropy(
        hidden.reshape(2, 3, 8), weight, wanted.reshape(2, 3), reduction="none"
    )
    assert shaped.shape == (2, 3)
    assert torch.equal(shaped.flatten(), flat)
    fixed = SF.linear_cross_entropy(hidden, weight.detach(), wanted)
    both = torch.autograd.grad(SF.linear_cross_entropy(hidden, weight, wanted), hidden)[0]
    assert torch.equal(torch.autograd.grad(fixed, hidden)[0], both)


@pytest.mark.parametrize("backend", sf.supported_backends("bfloat16"))
def test_cross_entropy_under_autocast(backend):
    hidden, weight, bias, wanted = tables(150, 300, 40, torch.float32)
    exact = SF.linear_cross_entropy(hidden, weight, wanted, bias)
    with (
        sf.force_backend("bfloat16", backend),
        torch.autocast("cpu", torch.bfloat16),
    ):
        ours = SF.linear_cross_entropy(hidden, weight, wanted, bias)
        found = gradients(ours, (hidden, weight, bias))
    assert ours.dtype == torch.float32
    assert ours != exact
    torch.testing.assert_close(ours, exact, rtol=3e-3, atol=0)
    for a, b in zip(found, gradients(exact, (hidden, weight, bias)), strict=True):
        assert (a - b).norm() <= 1e-2 * b.norm()


def test_half_precision_inputs():
    hidden, weight, bias, wanted = tables(9, 70, 16, torch.float32)
    low = hidden.detach().bfloat16().requires_grad_()
    loss = SF.linear_cross_entropy(low, weight, wanted, bias)
    exact = SF.linear_cross_entropy(low.detach().float(), weight, wanted, bias)
    assert torch.equal(loss, exact)
    assert torch.autograd.grad(loss, low)[0].dtype == torch.bfloat16


def test_operators_tell_the_dtypes_of_bfloat16_tables():
    ops = torch.ops.seqrec_fast
    hidden, weight = (torch.empty(n, 8, dtype=torch.bfloat16, device="meta") for n in (5, 9))
    target, bias = torch.empty(5, dtype=torch.int64, device="meta"), torch.empty(9, device="meta")
    options = (1.0, 0.0, 0.0, "bfloat16")
    loss, log_sum = ops.cross_entropy(hidden, weight, target, bias, *options)
    assert loss.dtype == log_sum.dtype == torch.float32
    head = (hidden, weight, target, bias, log_sum, loss, *options)
    found = ops.cross_entropy_grad(*head, True, True, True)
    assert [g.dtype for g in found] == [torch.bfloat16, torch.bfloat16, torch.float32]
    assert [tuple(g.shape) for g in found] == [(5, 8), (9, 8), (9,)]


# Of PyTorch's own tracing.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_losses_compile():
    hidden, weight, bias, wanted = tables(10, 200, 8, torch.float32)
    negatives = torch.arange(50)

    def both(h, w, b):
        sampled = SF.bpr_max_loss(h, w, wanted, negatives, b)
        sampled += SF.bpr_max_loss(h, w, wanted, negatives.reshape(10, 5), b)
        return SF.linear_cross_entropy(h, w, wanted, b) + sampled

    compiled = torch.compile(both, backend="eager", fullgraph=True)
    ours, eager = compiled(hidden, weight, bias), both(hidden, weight, bias)
    assert torch.equal(ours, eager)
    inputs = (hidden, weight, bias)
    assert_close(gradients(ours, inputs), gradients(eager, inputs), 1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda h, w, t, b: SF.linear_cross_entropy(h, w, t + 50, b), r"target 0 is .*0 to 49"),
        (lambda h, w, t, b: SF.linear_cross_entropy(h, w[:, :3], t, b), r"weight has shape"),
        (lambda h, w, t, b: SF.linear_cross_entropy(h, w, t, b[:3]), r"bias has shape"),
        (lambda h, w, t, b: SF.linear_cross_entropy(h, w, t[:2], b), r"target has shape"),
        (lambda h, w, t, b: SF.linear_cross_entropy(h, w, t, reduction="x"), r"reduction is 'x'"),
        (lambda h, w, t, b: SF.linear_cross_entropy(h, w, t, softcap=-1), r"softcap is -1"),
        (lambda h, w, t, b: SF.linear_cross_entropy(h, w, t, label_smoothing=2), r"label_smooth"),
        (lambda h, w, t, b: SF.bpr_max_loss(h, w, t, t + 50), r"negatives\[0\] is .*0 to 49"),
        (lambda h, w, t, b: SF.bpr_max_loss(h, w, t - 60, t), r"bpr_max_loss: target\[0\] is"),
        (lambda h, w, t, b: SF.bpr_max_loss(h, w, t, t, collisions="no"), r"collisions is 'no'"),
        (lambda h, w, t, b: SF.bpr_max_loss(h, w, t, t, elu=-2), r"elu is -2"),
        (
            lambda h, w, t, b: SF.bpr_max_loss(h, w, t, t.expand(2, 4), collisions="own"),
            r"collisions is own",
        ),
        (
            lambda h, w, t, b: SF.bpr_max_loss(h, w, t, t[:2], collisions="own"),
            r"negatives has shape \(1, 2\); expected the 4 targets first",
        ),
        (lambda h, w, t, b: SF.gbce_loss(h, w, t, t, calibration=2), r"calibration is 2"),
        (lambda h, w, t, b: SF.sampled_softmax_loss(h, w, t, t[:0]), r"negatives has shape"),
        (lambda h, w, t, b: SF.sampled_softmax_loss(h, w, t, t, log_q=b[:2]), r"log_q has shape"),
        (lambda h, w, t, b: SF.RowUpdate(w, "lion", lr=1), r"rule is 'lion'"),
        (lambda h, w, t, b: SF.RowUpdate(w.T, lr=1), r"table has shape"),
        (lambda h, w, t, b: SF.RowUpdate(w, lr=1, momentum=1), r"momentum is 1"),
        (
            lambda h, w, t, b: SF.RowUpdate(w, lr=1).step(torch.tensor([1, 1]), w[:2]),
            r"ids are not ascending",
        ),
        (
            lambda h, w, t, b: SF.linear_cross_entropy(
                h, w, t, update=SF.RowUpdate(w.clone(), lr=1)
            ),
            r"update is not of this weight",
        ),
    ],
)
def test_bad_arguments(call, message):
    hidden, weight, bias, wanted = tables(4, 50, 8, torch.float32)
    with pytest.raises(ValueError, match=message):
        call(hidden.detach(), weight.detach(), wanted, bias.detach())


def test_a_target_of_another_dtype():
    hidden, weight, _, wanted = tables(4, 50, 8, torch.float32)
    with pytest.raises(TypeError, match=r"target is torch\.int32; expected int64"):
        SF.linear_cross_entropy(hidden, weight, wanted.int())


MEMORY = """
import torch, seqrec_fast.nn.functional as SF
def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
hidden, weight = torch.randn(2000, 16, requires_grad=True), torch.randn(200_000, 16)
weight, target = weight.requires_grad_(), torch.randint(200_000, (2000,))
SF.linear_cross_entropy(hidden[:5], weight, target[:5]).backward()
before = peak()
SF.linear_cross_entropy(hidden, weight, target).backward()
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_cross_entropy_takes_a_tenth_of_the_logits_memory():
    result = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True
    )
    # The logits alone are 1526 MB; inputs and gradients 26.
    assert float(result.stdout) < 100
