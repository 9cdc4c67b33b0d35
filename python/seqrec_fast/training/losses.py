"""Losses over the whole catalogue, or over targets and negatives that all events share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .batches import gather

# Scores of targets (N,) and negatives (N, S) -> losses (N,) and the derivatives by both scores.
Formula = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

COLLISIONS = ("own", "mask", "keep")
REDUCTIONS = ("mean", "sum", "none")
# Logits that exist at one time: few enough to stay in the cache of one core.
_CHUNK_LOGITS = 1 << 18
# Keeps the logarithm of BPR-max finite; GRU4Rec's value.
_TINY = 1e-24


class _CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``hidden @ weight.T + bias``, some rows of logits at a time.

    The gradients are made along with the loss, while a chunk of logits is at hand, so the
    (events, n_items) matrix never exists.
    """

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        events, n_items = hidden.shape[0], weight.shape[0]
        rows = max(1, _CHUNK_LOGITS // n_items)
        d_hidden = torch.empty_like(hidden)
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        loss = hidden.new_zeros(())
        for begin in range(0, events, rows):
            h = hidden[begin : begin + rows]
            target = targets[begin : begin + rows, None]
            logits = torch.addmm(bias, h, weight.t())
            d_logits = torch.softmax(logits, 1)
            # log-sum-exp from the largest probability, which cannot underflow
            log_sum = logits.amax(1) - d_logits.amax(1).log()
            loss += log_sum.sum() - logits.gather(1, target).sum()
            d_logits.scatter_add_(1, target, d_logits.new_full(target.shape, -1.0))
            torch.mm(d_logits, weight, out=d_hidden[begin : begin + rows])
            d_weight.addmm_(d_logits.t(), h)
            d_bias += d_logits.sum(0)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.events = events = max(events, 1)
        return loss / events

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0] / ctx.events
        return *(gradient * scale for gradient in ctx.saved_tensors), None


def cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """
    Return the mean cross-entropy of the softmax over the whole catalogue; 0 for no events.

    Equals ``torch.nn.functional.cross_entropy(hidden @ weight.T + bias, targets)`` in value and
    gradients, and never holds all logits at a time.

    Parameters
    ----------
    hidden : (events, H) Tensor
    weight : (n_items, H) Tensor
    bias : (n_items,) Tensor
    targets : (events,) int64 Tensor

    Returns
    -------
    () Tensor
    """
    loss: Tensor = _CrossEntropy.apply(hidden, weight, bias, targets)  # type: ignore[no-untyped-call]
    return loss


def sampled_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor,
    bias: Tensor | None = None,
    *,
    log_q: Tensor | None = None,
    target_log_q: Tensor | None = None,
    collisions: str = "mask",
    reduction: str = "mean",
) -> Tensor:
    """
    Return the cross-entropy of the softmax over each event's target and shared negatives.

    Parameters
    ----------
    hidden : (N, d) Tensor
    weight : (V, d) Tensor
    target : (N,) int64 Tensor
    negatives : (S,) int64 Tensor
        An item that stands there n times counts n times.
    bias : (V,) Tensor, optional
    log_q : (V,) Tensor, optional
        The logQ correction, is subtracted from scores. The logarithm of the expected number of
        an item's occurrences among the negatives makes the loss estimate cross-entropy over the
        whole catalogue.
    target_log_q : (N,) Tensor, optional
        The same for the scores of the targets; by default from `log_q`. Zeros: targets are not
        drawn, they are always there.
    collisions : {"mask", "own", "keep"}
        Which negatives an event leaves out: all that are its target; ``negatives[i]`` for event
        i, which must be its target (in-batch negatives stand first); or none.
    reduction : {"mean", "sum", "none"}

    Returns
    -------
    () Tensor, or (N,) with ``reduction="none"``

    Raises
    ------
    ValueError
        If an option is unknown, or ``"own"`` finds fewer negatives than events.
    """
    excluded = _excluded("sampled_softmax_loss", target, negatives, collisions, reduction)

    def formula(pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        shift = target_log_q
        if log_q is not None:
            neg -= log_q[negatives]
            shift = log_q[target] if shift is None else shift
        pos = pos if shift is None else pos - shift
        return _softmax_formula(pos, neg, excluded)

    return _reduced(_losses(hidden, weight, bias, target, negatives, formula), reduction)


def bpr_max_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor,
    bias: Tensor | None = None,
    *,
    regularization: float = 1.0,
    elu: float | None = None,
    collisions: str = "own",
    reduction: str = "mean",
) -> Tensor:
    """
    Return BPR-max (Hidasi & Karatzoglou, 2018, arXiv:1706.03847) over shared negatives.

    With scores r and the softmax s over an event's negatives, its loss is
    ``-log(sum_j s_j sigmoid(r_target - r_j)) + regularization * sum_j s_j r_j ** 2``.

    Parameters
    ----------
    hidden : (N, d) Tensor
    weight : (V, d) Tensor
    target : (N,) int64 Tensor
    negatives : (S,) int64 Tensor
        An item that stands there n times counts n times.
    bias : (V,) Tensor, optional
    regularization : float
        Strength of the penalty for high scores of negatives.
    elu : float, optional
        Scores first go through :func:`torch.nn.functional.elu` with this alpha.
    collisions, reduction
        As in :func:`sampled_softmax_loss`. An event without any negative has the loss 0.

    Returns
    -------
    () Tensor, or (N,) with ``reduction="none"``

    Raises
    ------
    ValueError
        If an option is unknown, or ``"own"`` finds fewer negatives than events.
    """
    excluded = _excluded("bpr_max_loss", target, negatives, collisions, reduction)

    def formula(pos: Tensor, neg: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _bpr_max_formula(pos, neg, excluded, regularization, elu)

    return _reduced(_losses(hidden, weight, bias, target, negatives, formula), reduction)


class _SharedNegatives(torch.autograd.Function):
    """Losses (N,) by a formula of the scores of targets and shared negatives."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        negatives: Tensor,
        formula: Formula,
    ) -> Tensor:
        every = _is_every_row(negatives, len(weight))
        rows = weight if every else weight.index_select(0, negatives)
        own = weight.index_select(0, target)
        pos, neg = torch.linalg.vecdot(hidden, own), hidden @ rows.t()
        if bias is not None:
            pos += bias[target]
            neg += bias if every else bias[negatives]
        loss, *d_scores = formula(pos, neg)
        ctx.save_for_backward(hidden, rows, own, target, negatives, *d_scores)
        ctx.shape, ctx.every, ctx.has_bias = weight.shape, every, bias is not None
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, rows, own, target, negatives, d_pos, d_neg = ctx.saved_tensors
        d_pos, d_neg = d_pos * gradients[0], d_neg * gradients[0][:, None]
        d_hidden = (d_neg @ rows).addcmul_(own, d_pos[:, None])
        d_weight, d_bias = d_neg.t() @ hidden, d_neg.sum(0)
        if not ctx.every:
            d_weight = hidden.new_zeros(ctx.shape).index_add_(0, negatives, d_weight)
            d_bias = hidden.new_zeros(ctx.shape[:1]).index_add_(0, negatives, d_bias)
        d_weight.index_add_(0, target, hidden * d_pos[:, None])
        d_bias = d_bias.index_add_(0, target, d_pos) if ctx.has_bias else None
        return d_hidden, d_weight, d_bias, None, None, None


def _softmax_formula(
    pos: Tensor, neg: Tensor, excluded: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the losses and their derivatives by both scores; `neg` is overwritten."""
    neg[excluded] = -torch.inf
    top = torch.maximum(neg.amax(1), pos)
    d_neg = neg.sub_(top[:, None]).exp_()
    d_pos = (pos - top).exp_()
    total = d_neg.sum(1) + d_pos
    return top + total.log() - pos, d_pos / total - 1, d_neg.div_(total[:, None])


def _bpr_max_formula(
    pos: Tensor,
    neg: Tensor,
    excluded: tuple[Tensor, Tensor],
    regularization: float,
    elu: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the losses and their derivatives by both scores; `neg` is overwritten."""
    if elu is not None:
        pos, neg = torch.nn.functional.elu(pos, elu), torch.nn.functional.elu_(neg, elu)
    neg[excluded] = -torch.inf
    share = torch.softmax(neg, 1)
    neg[excluded] = 0.0
    alone = excluded[0].bincount(minlength=len(neg)) == neg.shape[1]
    share[alone] = 0.0
    better = (pos[:, None] - neg).sigmoid_()
    mean = torch.linalg.vecdot(share, better) + _TINY
    loss = -mean.log()
    # d loss / d neg = share * (1 - better^2 / mean + regularization * (neg^2 + 2 neg - penalty))
    better.square_().div_(mean[:, None])
    d_pos = torch.linalg.vecdot(share, better) - 1
    d_neg = better.neg_().add_(1)
    if regularization:
        square = neg.square()
        penalty = torch.linalg.vecdot(share, square)
        loss.add_(penalty, alpha=regularization)
        square.add_(neg, alpha=2).sub_(penalty[:, None])
        d_neg.add_(square, alpha=regularization)
    d_neg.mul_(share)
    if elu is not None:
        d_pos, d_neg = _elu_backward(d_pos, pos, elu), _elu_backward(d_neg, neg, elu)
    return loss.masked_fill_(alone, 0.0), d_pos.masked_fill_(alone, 0.0), d_neg


def _elu_backward(gradient: Tensor, value: Tensor, alpha: float) -> Tensor:
    slope: Tensor = torch.ops.aten.elu_backward(gradient, alpha, 1.0, 1.0, True, value)
    return slope


def _is_every_row(negatives: Tensor, n_rows: int) -> bool:
    """Return whether the negatives are 0, 1, ...: then nothing is to be gathered."""
    return len(negatives) == n_rows and torch.equal(negatives, torch.arange(n_rows))


def _losses(*args: Any) -> Tensor:
    loss: Tensor = _SharedNegatives.apply(*args)  # type: ignore[no-untyped-call]
    return loss


def _excluded(
    caller: str, target: Tensor, negatives: Tensor, collisions: str, reduction: str
) -> tuple[Tensor, Tensor]:
    """Return the events and the places of the negatives that they leave out."""
    for name, value, known in (
        ("collisions", collisions, COLLISIONS),
        ("reduction", reduction, REDUCTIONS),
    ):
        if value not in known:
            raise ValueError(f"{caller}: {name} is {value!r}; expected one of {', '.join(known)}")
    if collisions == "mask":
        order = negatives.argsort(stable=True)
        ordered = negatives[order]
        first = torch.searchsorted(ordered, target)
        count = torch.searchsorted(ordered, target, right=True) - first
        places, _ = gather(first.numpy(), count.numpy())
        events = torch.arange(len(target)).repeat_interleave(count)
        return events, order[torch.from_numpy(places)]
    if collisions == "own" and len(negatives) < len(target):
        raise ValueError(
            f"{caller}: negatives has {len(negatives)} items; expected the {len(target)} targets "
            "first, because collisions is 'own'"
        )
    own = torch.arange(len(target) if collisions == "own" else 0)
    return own, own


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()
