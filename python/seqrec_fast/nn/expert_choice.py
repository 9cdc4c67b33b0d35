"""Choices of experts on tensors: by the rows, and by the experts."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _gate_ops as _gate_ops  # registers the operators
from ._tensors import working

__all__ = ["expert_gate"]


def expert_gate(
    logits: Tensor,
    k: int,
    *,
    score: str = "softmax",
    order: str = "score_then_topk",
    renormalize: bool = True,
    bias: Tensor | None = None,
    mask: Tensor | None = None,
    scale: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """
    Choose k experts for each row; the weights have gradients with respect to `logits`.

    Order, ties, NaN and options are those of :func:`seqrec_fast.expert_gate`. With ``k=1`` and
    weights that are renormalised or a softmax over the chosen the weight is `scale` whatever the
    logits, so nothing of a gradient reaches them.

    Parameters
    ----------
    logits : (N, E) Tensor
        float32 or float64; bfloat16 and float16 are computed as float32.
    k : int
        1 to E.
    score : {"softmax", "sigmoid", "sqrt_softplus"}
    order : {"score_then_topk", "topk_then_score"}
    renormalize : bool
    bias : (E,) Tensor, optional
        For the choice alone; it gets no gradient.
    mask : (E,) or (N, E) bool Tensor, optional
        True: may be chosen.
    scale : float

    Returns
    -------
    weights : (N, k) Tensor
        float64 for float64 logits, else float32; 0 where no candidate is left.
    expert_ids : (N, k) int64 Tensor
        -1 there.

    Raises
    ------
    TypeError
        If `logits` is of no floating type or `mask` not bool.
    ValueError
        If a shape does not fit, k is out of range, an option is unknown or scale is not finite.
    """
    if not logits.is_floating_point():
        raise TypeError(f"expert_gate: logits is {logits.dtype}; expected a floating type")
    if logits.dim() != 2:
        raise ValueError(f"expert_gate: logits has {logits.dim()} dimensions; expected (N, E)")
    experts = logits.shape[1]
    if not 1 <= k <= experts:
        raise ValueError(f"expert_gate: k is {k}; expected 1 to {experts}")
    if bias is not None and bias.shape != logits.shape[1:]:
        raise ValueError(f"expert_gate: bias has shape {tuple(bias.shape)}; expected ({experts},)")
    if mask is not None and mask.dtype != torch.bool:
        raise TypeError(f"expert_gate: mask is {mask.dtype}; expected bool")
    if mask is not None and mask.shape not in (logits.shape, logits.shape[1:]):
        raise ValueError(
            f"expert_gate: mask has shape {tuple(mask.shape)}; expected ({experts},) or "
            f"{tuple(logits.shape)}"
        )
    logits = working(logits)
    if bias is not None:
        bias = bias.detach().to(logits.dtype)
    result: tuple[Tensor, Tensor] = torch.ops.seqrec_fast.expert_gate(
        logits, k, score, order, renormalize, bias, mask, float(scale)
    )
    return result
