"""Losses of a training step; see :mod:`seqrec_fast.nn.functional`."""

from __future__ import annotations

from torch import Tensor

from seqrec_fast.nn.functional import bpr_max_loss, linear_cross_entropy, sampled_softmax_loss

__all__ = ["bpr_max_loss", "cross_entropy", "sampled_softmax_loss"]


def cross_entropy(hidden: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """
    Return the mean cross-entropy of the softmax over the whole catalogue; 0 for no events.

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
    total = linear_cross_entropy(hidden, weight, targets, bias, reduction="sum")
    return total / max(len(hidden), 1)
