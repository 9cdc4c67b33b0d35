"""Ragged sequences split by expert and put together again."""

from __future__ import annotations

from typing import NamedTuple, SupportsIndex

import torch
from torch import Tensor

from seqrec_fast._checks import checked_int

from . import _dispatch_ops
from ._checks import check_dtype, check_floating, check_offsets, check_partition, check_shape
from ._loss_checks import as_working
from ._tensors import working
from .segments import expand_segments, segment_mean

__all__ = [
    "Dispatch",
    "combine_by_expert",
    "dispatch_by_expert",
    "expand_segments",
    "segment_mean",
]


class Dispatch(NamedTuple):
    """Where the events of a ragged batch go: :class:`seqrec_fast.Dispatch` of tensors."""

    #: (nnz,) int64: the event of each row.
    index: Tensor  # type: ignore[assignment]  # a tuple has a method of this name
    #: (nnz,) int64: which choice made the row, a position in ``expert_ids``.
    slot: Tensor
    #: (num_experts * B + 1,) int64: where subsequence ``m * B + b`` begins.
    offsets: Tensor
    #: (N, k) int64: the row of each choice, -1 for none; the inverse of ``slot``.
    position: Tensor


def dispatch_by_expert(
    values: Tensor,
    offsets: Tensor,
    expert_ids: Tensor,
    num_experts: SupportsIndex,
    *,
    weights: Tensor | None = None,
    capacity: SupportsIndex | None = None,
    segment_offsets: Tensor | None = None,
) -> tuple[Tensor, Dispatch]:
    """
    Split each sequence of a ragged batch into one subsequence per expert, in time order.

    The result is a ragged batch itself: ``nn.GRU(...)(dispatched, offsets=dispatch.offsets)`` runs
    over all subsequences at once, and rows ``dispatch.offsets[m * B]`` to
    ``dispatch.offsets[(m + 1) * B]`` are all of expert m. The same bits for any number of threads;
    an expert without events has no rows, and its gradient is exactly 0. On a GPU the host waits for
    the number of rows, so a CUDA graph cannot hold the call.

    Parameters
    ----------
    values : (N, D) Tensor
        Events, sequence after sequence, oldest first. float32 or float64; bfloat16 and float16 are
        computed as float32.
    offsets : (B + 1,) int64 Tensor
        Sequence b holds the events from ``offsets[b]`` to ``offsets[b + 1]``.
    expert_ids : (N,) or (N, k) int64 Tensor
        The experts of each event, each at most once; -1 for none. With `segment_offsets`: (S,) or
        (S, k), those of each segment.
    num_experts : int
    weights : Tensor, optional
        Of the shape of `expert_ids`; multiply the rows and get a gradient, which is what makes a
        router learn.
    capacity : int, optional
        Events that a subsequence keeps: the newest. By default all.
    segment_offsets : (S + 1,) int64 Tensor, optional
        Events share the choices of their segment.

    Returns
    -------
    dispatched : (nnz, D) Tensor
    dispatch : Dispatch
        For :func:`combine_by_expert`.

    Raises
    ------
    TypeError
        If a tensor has another dtype, or an option is no integer.
    ValueError
        If a shape does not fit, an expert is out of range or twice in a row, offsets are no
        partition of the events, or an option is out of range.
    """
    name = "dispatch_by_expert"
    check_floating(name, "values", values)
    check_shape(name, "values", values, "N", "D")
    check_offsets(name, "offsets", offsets, "B")
    check_dtype(name, "expert_ids", expert_ids, torch.int64)
    rows = values.shape[0]
    if segment_offsets is not None:
        check_offsets(name, "segment_offsets", segment_offsets, "S")
        check_partition(name, "segment_offsets", segment_offsets, rows, "events")
        rows = segment_offsets.shape[0] - 1
    if expert_ids.dim() not in (1, 2) or expert_ids.shape[0] != rows:
        raise ValueError(
            f"{name}: expert_ids has shape {tuple(expert_ids.shape)}; expected ({rows},) or "
            f"({rows}, k)"
        )
    experts = checked_int(name, "num_experts", num_experts, 1)
    kept = -1 if capacity is None else checked_int(name, "capacity", capacity)
    ids = expert_ids[:, None] if expert_ids.dim() == 1 else expert_ids
    if weights is not None:
        check_floating(name, "weights", weights)
        check_shape(name, "weights", weights, *expert_ids.shape)
        weights = as_working(weights.reshape(ids.shape), values)
    if segment_offsets is not None:
        ids = expand_segments(ids, segment_offsets, values.shape[0])
        if weights is not None:
            weights = expand_segments(weights, segment_offsets, values.shape[0])
    plan = Dispatch(*_dispatch_ops.dispatch_by_expert(offsets, ids, experts, kept))
    dispatched: Tensor = _dispatch_ops.dispatch_rows(
        working(values), plan.position, weights, plan.index.shape[0]
    )
    return dispatched, plan


def combine_by_expert(
    dispatched: Tensor, dispatch: Dispatch, weights: Tensor | None = None
) -> Tensor:
    """
    Put rows back where their events were: each event gets the sum of its rows.

    Rows are summed in the order of the choices. Events without a row get 0.

    Parameters
    ----------
    dispatched : (nnz, D) Tensor
        One row per row of the dispatch, as experts computed it.
    dispatch : Dispatch
        Of :func:`dispatch_by_expert`.
    weights : (N, k) or (N,) Tensor, optional
        Multiply the rows; get a gradient.

    Returns
    -------
    (N, D) Tensor

    Raises
    ------
    TypeError
        If a tensor has another dtype.
    ValueError
        If a shape does not fit.
    """
    name = "combine_by_expert"
    if not isinstance(dispatch, Dispatch):
        raise TypeError(f"{name}: dispatch is {type(dispatch).__name__}; expected a Dispatch")
    position = dispatch.position
    check_floating(name, "dispatched", dispatched)
    check_shape(name, "dispatched", dispatched, dispatch.index.shape[0], "D")
    if weights is not None:
        check_floating(name, "weights", weights)
        weights = weights[:, None] if weights.dim() == 1 else weights
        check_shape(name, "weights", weights, *position.shape)
        weights = as_working(weights, dispatched)
    out: Tensor = _dispatch_ops.combine_rows(working(dispatched), position, weights)
    return out
