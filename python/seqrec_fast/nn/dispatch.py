"""Ragged sequences split by expert and put together again, and values per segment."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from . import _dispatch_ops as _dispatch_ops  # registers the operators
from ._loss_checks import as_working
from ._tensors import working

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


def _check_ids(name: str, argument: str, ids: Tensor) -> None:
    if ids.dtype != torch.int64:
        raise TypeError(f"{name}: {argument} is {ids.dtype}; expected int64")


def _check_shape(name: str, argument: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    if tensor.shape != shape:
        raise ValueError(
            f"{name}: {argument} has shape {tuple(tensor.shape)}; expected {tuple(shape)}"
        )


def _check_offsets(name: str, argument: str, offsets: Tensor) -> None:
    _check_ids(name, argument, offsets)
    if offsets.dim() != 1 or offsets.shape[0] < 1:
        raise ValueError(
            f"{name}: {argument} has shape {tuple(offsets.shape)}; expected one entry more than "
            "there are parts"
        )


def dispatch_by_expert(
    values: Tensor,
    offsets: Tensor,
    expert_ids: Tensor,
    num_experts: int,
    *,
    weights: Tensor | None = None,
    capacity: int | None = None,
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
        If ids or offsets are not int64.
    ValueError
        If a shape does not fit, an expert is out of range or twice in a row, offsets are no
        partition of the events, or an option is out of range.
    """
    name = "dispatch_by_expert"
    _check_offsets(name, "offsets", offsets)
    _check_ids(name, "expert_ids", expert_ids)
    if values.dim() != 2:
        raise ValueError(f"{name}: values has shape {tuple(values.shape)}; expected (N, D)")
    rows = values.shape[0] if segment_offsets is None else segment_offsets.shape[0] - 1
    if expert_ids.dim() not in (1, 2) or expert_ids.shape[0] != rows:
        raise ValueError(
            f"{name}: expert_ids has shape {tuple(expert_ids.shape)}; expected ({rows},) or "
            f"({rows}, k)"
        )
    if capacity is not None and capacity < 0:
        raise ValueError(f"{name}: capacity is {capacity}; expected 0 or more")
    ids = expert_ids[:, None] if expert_ids.dim() == 1 else expert_ids
    if weights is not None:
        _check_shape(name, "weights", weights, tuple(expert_ids.shape))
        weights = as_working(weights.reshape(ids.shape), values)
    if segment_offsets is not None:
        ids = expand_segments(ids, segment_offsets, values.shape[0])
        if weights is not None:
            weights = expand_segments(weights, segment_offsets, values.shape[0])
    plan = Dispatch(
        *torch.ops.seqrec_fast.dispatch_by_expert(
            offsets, ids, num_experts, -1 if capacity is None else capacity
        )
    )
    dispatched: Tensor = torch.ops.seqrec_fast.dispatch_rows(
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
    ValueError
        If a shape does not fit.
    """
    name = "combine_by_expert"
    position = dispatch.position
    if dispatched.dim() != 2 or dispatched.shape[0] != dispatch.index.shape[0]:
        raise ValueError(
            f"{name}: dispatched has shape {tuple(dispatched.shape)}; expected "
            f"({dispatch.index.shape[0]}, D)"
        )
    if weights is not None:
        if weights.dim() == 1:
            weights = weights[:, None]
        _check_shape(name, "weights", weights, tuple(position.shape))
        weights = as_working(weights, dispatched)
    out: Tensor = torch.ops.seqrec_fast.combine_rows(working(dispatched), position, weights)
    return out


def segment_mean(values: Tensor, segment_offsets: Tensor) -> Tensor:
    """
    Return the mean of each segment's rows, 0 for a segment without rows.

    Rows are summed in their order, so that a running sum gives the same bits.

    Parameters
    ----------
    values : (N, ...) Tensor
        float32 or float64; bfloat16 and float16 are computed as float32.
    segment_offsets : (S + 1,) int64 Tensor
        Segment s holds the rows from ``segment_offsets[s]`` to ``segment_offsets[s + 1]``.

    Returns
    -------
    (S, ...) Tensor

    Raises
    ------
    TypeError
        If the offsets are not int64.
    ValueError
        If they are no partition of the rows.
    """
    _check_offsets("segment_mean", "segment_offsets", segment_offsets)
    rows = working(values).reshape(values.shape[0], values.shape[1:].numel())
    means: Tensor = torch.ops.seqrec_fast.segment_sum(rows, segment_offsets, True)
    return means.reshape(means.shape[0], *values.shape[1:])


def expand_segments(
    per_segment: Tensor, segment_offsets: Tensor, n_events: int | None = None
) -> Tensor:
    """
    Give each event the row of its segment.

    Parameters
    ----------
    per_segment : (S, ...) Tensor
        float32, float64 or int64; bfloat16 and float16 are computed as float32.
    segment_offsets : (S + 1,) int64 Tensor
    n_events : int, optional
        What the offsets end at; read from them by default, which breaks a compiled graph.

    Returns
    -------
    (N, ...) Tensor

    Raises
    ------
    TypeError
        If the offsets are not int64.
    ValueError
        If they are no partition of the events or not for S segments.
    """
    name = "expand_segments"
    _check_offsets(name, "segment_offsets", segment_offsets)
    _check_shape(name, "segment_offsets", segment_offsets, (per_segment.shape[0] + 1,))
    n = int(segment_offsets[-1]) if n_events is None else n_events
    if n < 0:
        raise ValueError(f"{name}: there are {n} events; expected 0 or more")
    rows = per_segment if per_segment.dtype == torch.int64 else working(per_segment)
    rows = rows.reshape(rows.shape[0], per_segment.shape[1:].numel())
    out: Tensor = torch.ops.seqrec_fast.expand_segments(rows, segment_offsets, n, False)
    return out.reshape(n, *per_segment.shape[1:])
