"""Sampled losses over an item table: equal to their formulas, in value and gradients."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

import seqrec_fast as sf
from loss_cases import tables
from seqrec_fast.nn import functional as SF
from test_nn_losses import assert_close, gradients

LOSSES = {
    "softmax": SF.sampled_softmax_loss,
    "corrected": lambda *a, **kw: SF.sampled_softmax_loss(*a, corrected=True, **kw),
    "bpr_max": SF.bpr_max_loss,
    "top1_max": SF.top1_max_loss,
    "gbce": SF.gbce_loss,
}


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


@pytest.mark.parametrize("loss", [SF.bpr_max_loss, SF.top1_max_loss])
@pytest.mark.parametrize("elu", [0.0, 0.5])
def test_scores_below_zero_have_the_slope_of_the_elu(loss, elu):
    hidden = torch.tensor([[1.0, 0], [-1, 0]], dtype=torch.float64, requires_grad=True)
    weight = torch.tensor([[-2.0, 0], [-1, 0], [3, 0]], dtype=torch.float64, requires_grad=True)
    target, negatives = torch.tensor([0, 1]), torch.tensor([1, 2, 0])
    assert torch.autograd.gradcheck(
        lambda h, w: loss(h, w, target, negatives, elu=elu), (hidden, weight)
    )


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
