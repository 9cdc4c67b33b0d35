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

LOSSES = {
    "softmax": SF.sampled_softmax_loss,
    "corrected": lambda *a, **kw: SF.sampled_softmax_loss(*a, corrected=True, **kw),
    "bpr_max": SF.bpr_max_loss,
    "top1_max": SF.top1_max_loss,
    "gbce": SF.gbce_loss,
}
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


def sampled_reference(name, hidden, weight, target, sets, bias, *, left_out, log_q, elu):
    """Scores as a matrix, and the published formula."""
    positive = (hidden * weight[target]).sum(1) + bias[target]
    scores = torch.einsum("nd,nsd->ns", hidden, weight[sets]) + bias[sets]
    if name in ("softmax", "corrected"):
        scores = scores - log_q[sets]
        positive = positive - (log_q[target] if name == "softmax" else 0)
    elif name != "gbce":
        scores, positive = F.elu(scores, elu), F.elu(positive, elu)
    if name == "gbce":
        share = min(1, sets.shape[1] / (len(weight) - 1))
        beta = share * (0.75 * (1 - 1 / share) + 1 / share)
        others = F.softplus(scores).masked_fill(left_out, 0)
        return beta * F.softplus(-positive) + others.sum(1)
    masked = scores.masked_fill(left_out, -math.inf)
    if name == "softmax":
        return torch.cat([positive[:, None], masked], 1).logsumexp(1) - positive
    if name == "corrected":
        gap = masked.logsumexp(1) - math.log(sets.shape[1]) - positive
        return gap.sigmoid().detach() * gap
    share = masked.softmax(1)
    if name == "bpr_max":
        won = (share * (positive[:, None] - scores).sigmoid()).sum(1)
        return -(won + 1e-24).log() + 0.7 * (share * scores**2).sum(1)
    return (share * ((scores - positive[:, None]).sigmoid() + (scores**2).sigmoid())).sum(1)


def sampled_case(name, collisions, sizes, dtype):
    rows, items, dim, n, groups = sizes
    hidden, weight, bias, target = tables(rows, items, dim, dtype)
    with torch.no_grad():
        weight.mul_(0.5)
    generator = torch.Generator().manual_seed(1)
    negatives = torch.randint(0, items, (groups, n), generator=generator)
    options = {"collisions": collisions}
    if groups == 1:
        negatives = negatives[0]
    if collisions == "own":
        negatives = torch.cat([target, negatives])[:n]
    if name in ("softmax", "corrected"):
        options["log_q"] = torch.randn(items, generator=generator, dtype=dtype)
    elif name != "gbce":
        options["elu"] = 0.5
    if name == "bpr_max":
        options["regularization"] = 0.7
    return (hidden, weight, target, negatives, bias), options


SIZES = [(37, 200, 19, 70, 1), (210, 300, 32, 250, 1), (20, 90, 16, 33, 20), (21, 90, 5, 3, 4)]


@pytest.mark.parametrize(
    ("sizes", "collisions"),
    # Own negatives are shared ones.
    [(s, c) for s in SIZES for c in ("mask", "own", "keep") if c != "own" or s[-1] == 1],
    ids=str,
)
@pytest.mark.parametrize("name", LOSSES)
def test_sampled_losses_equal_their_formulas(target, name, collisions, sizes):
    rows, groups = sizes[0], sizes[-1]
    for dtype, rtol in ((torch.float64, 1e-10), (torch.float32, 2e-5)):
        inputs, options = sampled_case(name, collisions, sizes, dtype)
        hidden, weight, wanted, negatives, bias = inputs
        sets = negatives.reshape(-1, negatives.shape[-1])
        sets = sets[torch.arange(rows) // -(-rows // groups)]
        left_out = {
            "mask": sets == wanted[:, None],
            "own": torch.arange(rows)[:, None] == torch.arange(sets.shape[1]),
            "keep": torch.zeros_like(sets, dtype=torch.bool),
        }[collisions]
        truth = [t.detach().double().requires_grad_() for t in (hidden, weight, bias)]
        log_q = options.get("log_q")
        theirs = sampled_reference(
            name, truth[0], truth[1], wanted, sets, truth[2], left_out=left_out,
            log_q=None if log_q is None else log_q.double(), elu=options.get("elu"),
        )  # fmt: skip
        for reduction in ("none", "mean", "sum"):
            ours = LOSSES[name](*inputs, reduction=reduction, **options)
            reduced = theirs if reduction == "none" else getattr(theirs, reduction)()
            torch.testing.assert_close(ours.double(), reduced, rtol=rtol, atol=rtol)
            exact = torch.autograd.grad((reduced * 1.5).sum(), truth, retain_graph=True)
            found = torch.autograd.grad((ours * 1.5).sum(), (hidden, weight, bias))
            assert_close(found, exact, 10 * rtol)


# The weight of the corrected form is a constant by definition.
@pytest.mark.parametrize("name", sorted(LOSSES.keys() - {"corrected"}))
def test_sampled_losses_gradcheck(name):
    inputs, options = sampled_case(name, "mask", (6, 20, 3, 9, 2), torch.float64)
    hidden, weight, target, negatives, bias = inputs
    assert torch.autograd.gradcheck(
        lambda h, w, b: LOSSES[name](h, w, target, negatives, b, **options),
        (hidden, weight, bias),
    )


def test_the_corrected_form_estimates_the_full_gradient():
    hidden, weight, bias, target = tables(4, 30, 6)
    inputs = (hidden, weight, bias)
    exact = gradients(SF.linear_cross_entropy(hidden, weight, target, bias), inputs)
    generator = torch.Generator().manual_seed(0)
    q = torch.rand(30, generator=generator, dtype=torch.float64) + 0.5
    q /= q.sum()
    negatives = torch.multinomial(q, 200_000, replacement=True, generator=generator)
    loss = SF.sampled_softmax_loss(
        hidden, weight, target, negatives, bias, log_q=q.log(), corrected=True
    )
    for a, b in zip(gradients(loss, inputs), exact, strict=True):
        assert (a - b).norm() <= 0.02 * b.norm()


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_all_of_whose_negatives_are_left_out(name):
    hidden, weight, bias, _ = tables(2, 10, 4)
    loss = LOSSES[name](
        hidden, weight, torch.tensor([3, 4]), torch.tensor([3, 3]), bias, reduction="none"
    )
    found = torch.autograd.grad(loss.sum(), (hidden, weight, bias))
    assert loss.isfinite().all()
    assert all(g.isfinite().all() for g in found)
    if name != "gbce":
        assert loss[0] == 0
        assert (found[0][0] == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_scores_stay_finite(name):
    hidden = torch.tensor([[1e3, 0.0], [-1e3, 0.0]], requires_grad=True)
    weight = torch.tensor([[1.0, 0], [-1, 0], [0, 0]], requires_grad=True)
    loss = LOSSES[name](hidden, weight, torch.tensor([0, 0]), torch.tensor([1, 2]))
    found = torch.autograd.grad(loss, (hidden, weight))
    assert loss.isfinite()
    assert all(g.isfinite().all() for g in found)


@pytest.mark.parametrize("name", LOSSES)
def test_sparse_gradients_hold_the_same_rows(name):
    inputs, options = sampled_case(name, "mask", (20, 500, 8, 30, 1), torch.float32)
    dense = torch.autograd.grad(LOSSES[name](*inputs, **options), inputs[1])[0]
    sparse = torch.autograd.grad(LOSSES[name](*inputs, sparse=True, **options), inputs[1])[0]
    assert sparse.is_coalesced()
    ids = sparse.indices()[0]
    assert torch.equal(ids, torch.cat([inputs[2], inputs[3]]).unique())
    assert torch.equal(sparse.to_dense(), dense)


def test_the_same_bits_for_any_number_of_threads():
    def results():
        hidden, weight, bias, wanted = tables(300, 2000, 33, torch.float32)
        negatives = torch.arange(0, 2000, 3)
        losses = [SF.linear_cross_entropy(hidden, weight, wanted, bias)]
        own = torch.arange(300)[:, None] + torch.arange(0, 1700, 100)
        for sets in (negatives, own):
            losses += [loss(hidden, weight, wanted, sets, bias) for loss in LOSSES.values()]
        with torch.autocast("cpu", torch.bfloat16):
            losses += [loss(hidden, weight, wanted, negatives, bias) for loss in LOSSES.values()]
        return [t for loss in losses for t in (loss, *gradients(loss, (hidden, weight, bias)))]

    sf.set_num_threads(1)
    one = results()
    for threads in (2, 5):
        sf.set_num_threads(threads)
        assert all(torch.equal(a, b) for a, b in zip(one, results(), strict=True))


@pytest.mark.parametrize("backend", sf.supported_backends("bfloat16"))
@pytest.mark.parametrize("name", LOSSES)
def test_sampled_losses_under_autocast(name, backend):
    for sizes in ((150, 300, 40, 200, 1), (21, 90, 5, 67, 4), (1, 90, 33, 3, 1)):
        inputs, options = sampled_case(name, "mask", sizes, torch.float32)
        leaves = (inputs[0], inputs[1], inputs[4])
        with torch.no_grad():
            inputs[0].mul_(0.5)
        exact = LOSSES[name](*inputs, **options)
        with sf.force_backend("bfloat16", backend), torch.autocast("cpu", torch.bfloat16):
            ours = LOSSES[name](*inputs, **options)
            found = gradients(ours, leaves)
        assert ours.dtype == torch.float32
        assert ours != exact
        torch.testing.assert_close(ours, exact, rtol=1e-2, atol=1e-3)
        for a, b in zip(found, gradients(exact, leaves), strict=True):
            assert (a - b).norm() <= 2e-2 * b.norm()


def test_autocast_leaves_float64_and_negatives_per_row_as_they_are():
    for dtype, groups in ((torch.float64, 1), (torch.float32, 20)):
        inputs, _ = sampled_case("gbce", "mask", (20, 90, 16, 33, groups), dtype)
        exact = SF.gbce_loss(*inputs)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(SF.gbce_loss(*inputs), exact)


@pytest.mark.parametrize("name", LOSSES)
def test_a_row_does_not_depend_on_its_batch(name):
    hidden, weight, bias, wanted = tables(30, 200, 33, torch.float32)
    generator = torch.Generator().manual_seed(2)
    for negatives in (
        torch.randint(0, 200, (30, 41), generator=generator),  # per row
        torch.randint(0, 200, (41,), generator=generator),
    ):
        options = {"reduction": "none"}
        batch = LOSSES[name](hidden, weight, wanted, negatives, bias, **options)
        upstream = torch.autograd.grad(batch.sum(), hidden)[0]
        for rows in (slice(3, 4), slice(5, 22)):
            own = negatives[rows] if negatives.dim() == 2 else negatives
            part = LOSSES[name](hidden[rows], weight, wanted[rows], own, bias, **options)
            assert torch.equal(part, batch[rows])
            assert torch.equal(torch.autograd.grad(part.sum(), hidden)[0][rows], upstream[rows])


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_show_in_their_row(target, name, value):
    hidden, weight, bias, wanted = tables(5, 100, 8, torch.float32)
    with torch.no_grad():
        hidden[2, 3] = value
    for negatives in (torch.arange(10), torch.arange(50).reshape(5, 10)):
        loss = LOSSES[name](hidden, weight, wanted, negatives, bias, reduction="none")
        assert not loss[2].isfinite()
        assert loss[[0, 1, 3, 4]].isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_negative_of_nan_shows(target, name):
    hidden, weight, bias, wanted = tables(5, 100, 8, torch.float32)
    with torch.no_grad():
        weight[60] = math.nan
    wanted[:] = 90
    shared, per_row = torch.arange(55, 90), torch.arange(10, 60).reshape(5, 10).clone()
    per_row[1, 4] = 60
    for negatives, rows in ((shared, range(5)), (per_row, [1])):
        loss = LOSSES[name](hidden, weight, wanted, negatives, bias, reduction="none")
        assert loss.isnan().tolist() == [row in rows for row in range(5)]


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
