"""Choices of experts on tensors: by the rows, and by the experts."""

from __future__ import annotations

from typing import SupportsIndex

import torch
from torch import Tensor

from seqrec_fast._checks import checked_number
from seqrec_fast.gating import checked_options

from . import _gate_ops
from ._checks import check_bias_and_mask, check_floating, check_shape
from ._tensors import working
from .gate_losses import as_gate_reads, check_valid, sequence_of_row

__all__ = ["expert_choice", "expert_gate"]


def expert_gate(
    logits: Tensor,
    k: SupportsIndex,
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
        If `logits` is of no floating type, `mask` not bool, or an option of another type.
    ValueError
        If a shape does not fit, k is out of range, an option is unknown or scale is not finite.
    """
    name = "expert_gate"
    check_floating(name, "logits", logits)
    check_shape(name, "logits", logits, "N", "E")
    rows, experts = logits.shape
    k, *options, scale = checked_options(name, experts, k, score, order, renormalize, scale)
    check_bias_and_mask(name, bias, mask, rows, experts)
    logits = working(logits)
    if bias is not None:
        bias = bias.detach().to(logits.dtype)
    result: tuple[Tensor, Tensor] = _gate_ops.expert_gate(logits, k, *options, bias, mask, scale)
    return result


def expert_choice(
    logits: Tensor,
    *,
    capacity_factor: float = 1.0,
    offsets: Tensor | None = None,
    valid: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """
    Let each expert choose the events it likes best (Zhou et al., 2022, arXiv:2202.09368).

    Of the L valid events of a sequence each expert takes ceil(capacity_factor * L / E), at most L,
    by descending softmax probability, equal ones by ascending position. Later events can displace
    earlier ones, so this is for whole sequences, not for streams.

    Parameters
    ----------
    logits : (N, E) Tensor
        NaN is never chosen; the infinities are read as the largest finite numbers, so that a row
        of -inf alone likes all experts alike, as :func:`expert_gate` has it.
    capacity_factor : float
        Experts per event in the mean.
    offsets : (B + 1,) int64 Tensor, optional
        Events of the sequences; by default all are one.
    valid : (N,) bool Tensor, optional
        Events that may be chosen; by default all.

    Returns
    -------
    weights : (N, E) Tensor
        The probability of expert e in column e, 0 where it did not choose the event; with
        gradients with respect to `logits`.
    expert_ids : (N, E) int64 Tensor
        e in column e where expert e chose the event, else -1: as `expert_gate` gives them.

    Raises
    ------
    TypeError
        If a tensor has another dtype, or an option another type.
    ValueError
        If a shape does not fit or capacity_factor is not positive.
    """
    name = "expert_choice"
    check_floating(name, "logits", logits)
    check_shape(name, "logits", logits, "N", "E")
    capacity_factor = checked_number(name, "capacity_factor", capacity_factor)
    if not capacity_factor > 0:
        raise ValueError(f"{name}: capacity_factor is {capacity_factor}; expected more than 0")
    rows, experts = logits.shape
    check_valid(name, valid, rows)
    logits = working(logits)
    sequence, batch = sequence_of_row(name, offsets, logits)
    may_be = logits.new_ones(rows, dtype=torch.bool) if valid is None else valid
    probabilities = torch.softmax(as_gate_reads(logits, valid)[0], 1)
    candidate = may_be[:, None] & ~logits.isnan()
    of_sequence = sequence.new_zeros(batch)
    lengths = of_sequence.index_add(0, sequence, may_be.long()).double()
    capacity = (capacity_factor * lengths / max(experts, 1)).ceil().clamp(max=lengths).long()
    # By probability, then, stably, by sequence: the place in the sequence's order follows.
    key = torch.where(candidate, probabilities.detach(), -1.0)
    by_key = key.argsort(dim=0, descending=True, stable=True)
    order = by_key.gather(0, sequence[by_key].argsort(dim=0, stable=True))
    events = of_sequence.index_add(0, sequence, torch.ones_like(sequence))
    begin = events.cumsum(0) - events
    place = torch.arange(rows, device=logits.device)[:, None] - begin[sequence[order]]
    rank = torch.empty_like(order).scatter_(0, order, place)
    chosen = candidate & (rank < capacity[sequence][:, None])
    ids = torch.where(chosen, torch.arange(experts, device=logits.device), -1)
    return torch.where(chosen, probabilities, 0.0), ids
