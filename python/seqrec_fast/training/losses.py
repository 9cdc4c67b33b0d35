"""Cross-entropy over the whole catalogue, or over targets and shared negatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqrec_fast.models import GRU4Rec

from .negatives import Candidates

# Logits that exist at one time: few enough to stay in the cache of one core.
_CHUNK_LOGITS = 1 << 18


class _CrossEntropy(torch.autograd.Function):
    """Mean cross-entropy of ``hidden @ weight.T + bias``, some rows of logits at a time.

    The gradients are made along with the loss, while a chunk of logits is at hand, so the
    (events, n_items) matrix never exists.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        target_offsets: Tensor | None,
    ) -> Tensor:
        events, n_items = hidden.shape[0], weight.shape[0]
        rows = max(1, _CHUNK_LOGITS // n_items)
        d_hidden = torch.empty_like(hidden)
        d_weight, d_bias = torch.zeros_like(weight), torch.zeros_like(bias)
        loss = hidden.new_zeros(())
        for begin in range(0, events, rows):
            h = hidden[begin : begin + rows]
            target = targets[begin : begin + rows, None]
            logits = torch.addmm(bias, h, weight.t())
            if target_offsets is not None:
                logits.scatter_add_(1, target, target_offsets[begin : begin + rows, None])
            d_logits = torch.softmax(logits, 1)
            # log-sum-exp from the largest probability, which cannot underflow
            log_sum = logits.amax(1) - d_logits.amax(1).log()
            loss += log_sum.sum() - logits.gather(1, target).sum()
            d_logits.scatter_add_(1, target, d_logits.new_full(target.shape, -1.0))
            torch.mm(d_logits, weight, out=d_hidden[begin : begin + rows])
            d_weight.addmm_(d_logits.t(), h)
            d_bias += d_logits.sum(0)
        ctx.save_for_backward(d_hidden, d_weight, d_bias)
        ctx.events = events
        return loss / events

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0] / ctx.events
        return *(gradient * scale for gradient in ctx.saved_tensors), None, None


def cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    target_offsets: Tensor | None = None,
) -> Tensor:
    """
    Return the mean cross-entropy of the softmax over the whole catalogue.

    Equals ``torch.nn.functional.cross_entropy(hidden @ weight.T + bias, targets)`` in value and
    gradients, and never holds all logits at a time.

    Parameters
    ----------
    hidden : (events, H) Tensor
    weight : (n_items, H) Tensor
    bias : (n_items,) Tensor
    targets : (events,) int64 Tensor
    target_offsets : (events,) Tensor, optional
        Added to the logit of each event's target.

    Returns
    -------
    () Tensor
    """
    loss: Tensor = _CrossEntropy.apply(hidden, weight, bias, targets, target_offsets)  # type: ignore[no-untyped-call]
    return loss


def sampled_cross_entropy(model: GRU4Rec, hidden: Tensor, candidates: Candidates) -> Tensor:
    """
    Return the mean cross-entropy of the softmax over the candidates of a mini-batch.

    Only the candidates' rows of the item table get a gradient.

    Parameters
    ----------
    model : GRU4Rec
    hidden : (events, H) Tensor
    candidates : Candidates
        See :meth:`seqrec_fast.training.NegativeSampler.candidates`.

    Returns
    -------
    () Tensor
    """
    weight, bias = model.item_rows(candidates.items)
    offsets, labels = candidates.offsets, candidates.labels
    return cross_entropy(
        hidden, weight, bias + offsets, labels, candidates.label_offsets - offsets[labels]
    )
