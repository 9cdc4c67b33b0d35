from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from seqrec_fast.training import (
    NegativeSampler,
    bpr_max_loss,
    cross_entropy,
    sampled_softmax_loss,
)

N = 40


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_cross_entropy_equals_torch() -> None:
    torch.manual_seed(0)
    tensors = [torch.randn(s, dtype=torch.float64) for s in ((11, 5), (30, 5), (30,))]
    targets = torch.randint(30, (11,))
    results = []
    for formula in (cross_entropy, lambda h, w, b, t: functional.cross_entropy(h @ w.T + b, t)):
        leaves = [t.clone().requires_grad_() for t in tensors]
        loss = formula(*leaves, targets)
        (3 * loss).backward()
        results.append([loss, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_cross_entropy_gradients() -> None:
    torch.manual_seed(0)
    shapes = ((4, 3), (6, 3), (6,))
    leaves = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    targets = torch.tensor([5, 0, 0, 2])
    assert torch.autograd.gradcheck(lambda *x: cross_entropy(*x, targets), leaves)


def test_cross_entropy_of_a_hopeless_target_is_finite() -> None:
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[500.0], [0.0]])
    assert cross_entropy(hidden, weight, torch.zeros(2), torch.tensor([1])).item() == 500


SIZES = (5, 4), (9, 4), (9,)  # hidden, weight, bias
TARGET = torch.tensor([1, 2, 3, 2, 1])
NEGATIVES = torch.cat([TARGET, torch.tensor([0, 1, 7, 8, 8])])  # a hit, and an item twice
LOG_Q = torch.linspace(-1, 2, 9, dtype=torch.float64)


def leaves(scale: float = 1.0) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [(scale * torch.randn(size, dtype=torch.float64)).requires_grad_() for size in SIZES]


def kept(event: int, collisions: str) -> list[int]:
    """Return the places of an event's negatives."""
    places = range(len(NEGATIVES))
    if collisions == "mask":
        return [j for j in places if NEGATIVES[j] != TARGET[event]]
    return [j for j in places if collisions == "keep" or j != event]


def obvious_softmax(scores, collisions, log_q, corrected) -> torch.Tensor:
    """Return the losses, one event after another."""
    shifted = scores - log_q
    total = []
    for event, target in enumerate(TARGET.tolist()):
        pos = (scores if corrected else shifted)[event, target]
        neg = shifted[event, NEGATIVES[kept(event, collisions)]]
        total.append(torch.cat([pos[None], neg]).logsumexp(0) - pos)
    return torch.stack(total)


def obvious_bpr_max(scores, collisions, regularization, elu) -> torch.Tensor:
    """Return the losses, one event after another."""
    scores = functional.elu(scores, elu) if elu else scores
    total = []
    for event, target in enumerate(TARGET.tolist()):
        neg = scores[event, NEGATIVES[kept(event, collisions)]]
        share = neg.softmax(0)
        better = (scores[event, target] - neg).sigmoid()
        total.append(-(share * better).sum().log() + regularization * (share * neg.square()).sum())
    return torch.stack(total)


@pytest.mark.parametrize("collisions", ["mask", "own", "keep"])
@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("log_q", [None, LOG_Q])
def test_sampled_softmax_equals_the_obvious_program(collisions, corrected, log_q) -> None:
    hidden, weight, bias = leaves()
    target_log_q = torch.zeros(5) if corrected else None
    options = {"collisions": collisions, "target_log_q": target_log_q, "log_q": log_q}
    ours = sampled_softmax_loss(hidden, weight, TARGET, NEGATIVES, bias, **options)
    shift = torch.zeros(9) if log_q is None else log_q
    scores = hidden @ weight.T + bias
    theirs = obvious_softmax(scores, collisions, shift, corrected).mean()
    check_equal(ours, theirs, (hidden, weight, bias))


@pytest.mark.parametrize("collisions", ["mask", "own", "keep"])
@pytest.mark.parametrize("regularization", [0.0, 1.5])
@pytest.mark.parametrize("elu", [None, 0.5, 1.0])
def test_bpr_max_equals_the_obvious_program(collisions, regularization, elu) -> None:
    hidden, weight, bias = leaves()
    options = {"collisions": collisions, "regularization": regularization, "elu": elu}
    ours = bpr_max_loss(hidden, weight, TARGET, NEGATIVES, bias, **options)
    scores = hidden @ weight.T + bias
    theirs = obvious_bpr_max(scores, collisions, regularization, elu).mean()
    check_equal(ours, theirs, (hidden, weight, bias))


def check_equal(ours, theirs, inputs) -> None:
    torch.testing.assert_close(ours, theirs)
    for mine, their in zip(*(torch.autograd.grad(x, inputs) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, their)


@pytest.mark.parametrize("collisions", ["mask", "own", "keep"])
@pytest.mark.parametrize("loss", [sampled_softmax_loss, bpr_max_loss])
def test_gradients_with_every_reduction(loss, collisions) -> None:
    inputs = leaves()

    def single(hidden, weight, bias, reduction="none"):
        return loss(
            hidden, weight, TARGET, NEGATIVES, bias, collisions=collisions, reduction=reduction
        )

    assert torch.autograd.gradcheck(single, inputs)
    each = single(*inputs)
    torch.testing.assert_close(single(*inputs, "sum"), each.sum())
    torch.testing.assert_close(single(*inputs, "mean"), each.mean())
    without = loss(*inputs[:2], TARGET, NEGATIVES, collisions=collisions)
    zero = loss(*inputs[:2], TARGET, NEGATIVES, torch.zeros(9), collisions=collisions)
    torch.testing.assert_close(without, zero)


@pytest.mark.parametrize("loss", [sampled_softmax_loss, bpr_max_loss])
def test_shared_negatives_with_extreme_scores(loss) -> None:
    hidden, weight, bias = leaves(scale=30.0)
    value = loss(hidden, weight, TARGET, NEGATIVES, bias)
    gradients = torch.autograd.grad(value, (hidden, weight, bias))
    assert all(torch.isfinite(t).all() for t in (value, *gradients))
    # an event whose only negatives are its target has none, and so nothing to learn
    alone = loss(hidden, weight, TARGET, torch.tensor([1, 1]), bias, collisions="mask",
                 reduction="none")  # fmt: skip
    assert alone[[0, 4]].tolist() == [0, 0]
    assert not torch.autograd.grad(alone[0], hidden)[0].any()


@pytest.mark.parametrize("loss", [sampled_softmax_loss, bpr_max_loss])
def test_bad_options_of_losses_are_named(loss) -> None:
    arguments = (*leaves()[:2], TARGET)
    name = loss.__name__
    with pytest.raises(ValueError, match=f"{name}: collisions is 'no'; expected one of mask, own"):
        loss(*arguments, NEGATIVES, collisions="no")
    with pytest.raises(ValueError, match=f"{name}: reduction is 'max'; expected one of mean"):
        loss(*arguments, NEGATIVES, reduction="max")
    with pytest.raises(ValueError, match=f"{name}: negatives has shape .*expected the 5 targets"):
        loss(*arguments, NEGATIVES[:4], collisions="own")


def of_candidates(sampler, scores_of, targets, **options) -> torch.Tensor:
    among = sampler.candidates(targets, rng())
    hidden, weight, bias = scores_of
    among = among if options["collisions"] == "own" else among.merged()
    return sampled_softmax_loss(
        hidden, weight[among.items], among.targets, among.negatives, bias[among.items],
        log_q=among.log_q, **options,
    )  # fmt: skip


@pytest.mark.parametrize("logq", [0.0, 0.5, 1.0])
def test_merged_candidates_are_the_same_by_a_shorter_way(logq) -> None:
    counts = np.arange(N)  # item 0 cannot be drawn
    sampler = NegativeSampler(counts, 60, alpha=0.5, logq=logq)
    for targets in ([3, 39, 3, 20, 7], [1], [2, 2, 2]):
        tensor = torch.tensor(targets)
        expected = sampler.candidates(tensor, rng()).merged()
        items, log_q = sampler.merged(tensor, rng())
        np.testing.assert_array_equal(items, expected.items.numpy())
        np.testing.assert_array_equal(log_q, expected.log_q.numpy())


@pytest.mark.parametrize("logq", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("collisions", ["mask", "own"])
def test_candidates_stand_for_the_drawn_items(logq, collisions) -> None:
    counts = np.arange(1, N + 1)
    sampler = NegativeSampler(counts, 25, alpha=0.5, logq=logq, collisions=collisions)
    targets = torch.tensor([3, 39, 3, 20, 7])
    drawn = sampler.draw(rng())
    assert set(drawn.tolist()) & set(targets.tolist())  # an accidental hit, and
    assert len(set(drawn.tolist())) < 25  # an item that is drawn twice
    hidden, weight, bias = torch.randn(5, 8), torch.randn(N, 8), torch.randn(N)
    mask = collisions == "mask"
    ours = of_candidates(
        sampler,
        (hidden, weight, bias),
        targets,
        target_log_q=torch.zeros(5) if mask else None,
        collisions=collisions,
    )
    scores = hidden @ weight.T + bias
    expected = 5 * counts / counts.sum() + 25 * counts**0.5 / (counts**0.5).sum()
    total = 0.0
    for event, target in enumerate(targets.tolist()):
        terms = [scores[event, target] - (0 if mask else logq * np.log(counts[target]))]
        for place, item in enumerate([*targets.tolist(), *drawn.tolist()]):
            if mask and item != target:
                terms.append(scores[event, item] - logq * np.log(expected[item]))
            elif not mask and place != event:
                power = 1.0 if place < 5 else 0.5
                terms.append(scores[event, item] - logq * power * np.log(counts[item]))
        total += torch.stack(terms).logsumexp(0) - terms[0]
    torch.testing.assert_close(ours, total / 5, rtol=1e-4, atol=1e-6, check_dtype=False)


def test_sampled_loss_estimates_the_full_one() -> None:
    generator = torch.Generator().manual_seed(1)
    hidden, weight, bias = (torch.randn(s, generator=generator) for s in ((200, 8), (N, 8), (N,)))
    targets = torch.from_numpy(rng().integers(0, N, 200))
    sampler = NegativeSampler(np.bincount(targets.numpy(), minlength=N), 3000, alpha=0.5)
    full = cross_entropy(hidden, weight, bias, targets)
    sampled = of_candidates(
        sampler, (hidden, weight, bias), targets, target_log_q=torch.zeros(200), collisions="mask"
    )
    assert sampled.item() == pytest.approx(full.item(), rel=0.01)


def test_negatives_are_drawn_by_popularity() -> None:
    sampler = NegativeSampler([16, 0, 1, 4], 100_000, alpha=0.5)
    share = np.bincount(sampler.draw(rng()).numpy(), minlength=4) / 100_000
    np.testing.assert_allclose(share, [4 / 7, 0, 1 / 7, 2 / 7], atol=0.01)
    uniform = NegativeSampler([16, 0, 1, 4], 1, alpha=0)
    np.testing.assert_allclose(uniform.probability, [1 / 3, 0, 1 / 3, 1 / 3])
    with pytest.raises(ValueError, match="alpha is 2; expected 0 to 1"):
        NegativeSampler([1], 1, alpha=2)
    with pytest.raises(ValueError, match="n_sample is 0"):
        NegativeSampler([1], 0)
    with pytest.raises(ValueError, match="collisions is 'keep'; expected one of mask, own"):
        NegativeSampler([1], collisions="keep")
    with pytest.raises(ValueError, match="counts must be"):
        NegativeSampler([0, 0], 1)
