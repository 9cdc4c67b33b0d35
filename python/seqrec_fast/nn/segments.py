"""Segments of ragged batches: where they are cut, and values per segment."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import torch
from torch import Tensor

from seqrec_fast import segments as of_arrays
from seqrec_fast._checks import checked_int

from . import _devices, _dispatch_ops
from ._checks import (
    check_floating,
    check_offsets,
    check_partition,
    check_rows,
    check_shape,
    check_tensor,
)
from ._tensors import array, working

__all__ = [
    "Segments",
    "expand_segments",
    "segment_mean",
    "segment_softmax",
    "segment_sum",
    "session_segments",
]

_library: Any = torch.library.Library("seqrec_fast", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "session_segments(Tensor offsets, Tensor? times, str rule, SymInt n_events, int window,"
    " float gap, int count) -> (Tensor segment_offsets, Tensor sequence_offsets)"
)


class Segments(NamedTuple):
    """Segments of a ragged batch: :class:`seqrec_fast.Segments` of tensors."""

    #: (S + 1,) int64: segment s holds the events from ``offsets[s]`` to ``offsets[s + 1]``.
    offsets: Tensor
    #: (B + 1,) int64: the segments of each sequence.
    sequence_offsets: Tensor


def _session_segments_fake(offsets: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    entries = torch.library.get_ctx().new_dynamic_size(min=1)
    return offsets.new_empty(entries), offsets.new_empty(offsets.shape[0])


def _session_segments_cpu(
    offsets: Tensor,
    times: Tensor | None,
    rule: str,
    n_events: int,
    window: int,
    gap: float,
    count: int,
) -> tuple[Tensor, Tensor]:
    cuts = of_arrays.session_segments(
        array(offsets),
        array(times),
        rule=rule,
        window=window if rule == "window" else None,
        gap=gap if rule == "gap" else None,
        count=count if rule == "top_gaps" else None,
    )
    if cuts.offsets[-1] != n_events:
        raise ValueError(
            f"session_segments: offsets end at {cuts.offsets[-1]}; expected n_events={n_events}"
        )
    return torch.from_numpy(cuts.offsets), torch.from_numpy(cuts.sequence_offsets)


def _session_segments_cuda(
    offsets: Tensor, times: Tensor | None, rule: str, n_events: int, *options: Any
) -> tuple[Tensor, Tensor]:
    # How many segments there are is known on the device alone, so the host waits for it.
    starts = torch.empty(n_events, dtype=torch.uint8, device=offsets.device)
    status = offsets.new_zeros(1)
    dtype = torch.int64 if times is None else times.dtype
    _devices.run("segment_starts", dtype, offsets, rule, offsets, times, *options, starts, status)
    if int(status):  # the CPU says what is wrong
        _session_segments_cpu(
            offsets.cpu(), None if times is None else times.cpu(), rule, n_events, *options
        )
    first = starts.nonzero()[:, 0]
    none = offsets.new_zeros(1)
    before = torch.cat([none, starts.cumsum(0, dtype=torch.int64)])
    return torch.cat([first, none + n_events]), before.index_select(0, offsets)


_library.impl("session_segments", _session_segments_cpu, "CPU")
if "CUDA" in _devices.DEVICES:
    _library.impl("session_segments", _session_segments_cuda, "CUDA")
torch.library.register_fake("seqrec_fast::session_segments", _session_segments_fake, lib=_library)


def session_segments(
    offsets: Tensor,
    times: Tensor | None = None,
    *,
    rule: str = "window",
    window: SupportsIndex | None = None,
    gap: float | None = None,
    count: SupportsIndex | None = None,
    n_events: SupportsIndex | None = None,
) -> Segments:
    """
    Cut each sequence of a ragged batch into segments: :func:`seqrec_fast.session_segments`.

    On a GPU the host waits for the number of segments, so a CUDA graph cannot hold the call.

    Parameters
    ----------
    offsets : (B + 1,) int64 Tensor
        Sequence b holds the events from ``offsets[b]`` to ``offsets[b + 1]``, oldest first.
    times : (N,) int64 or float64 Tensor, optional
        Never decreasing inside a sequence; rule ``"window"`` has none.
    rule, window, gap, count
        As of :func:`seqrec_fast.session_segments`.
    n_events : int, optional
        What the offsets end at; by default the number of times, else read from the offsets.

    Returns
    -------
    Segments

    Raises
    ------
    TypeError
        If a tensor has another dtype, or an option another type.
    ValueError
        If the offsets are no partition of the events, times decrease or are not finite, or an
        option is missing, out of range, or of another rule.
    """
    name = "session_segments"
    options = of_arrays.checked_rule(name, rule, window, gap, count)
    check_offsets(name, "offsets", offsets, "B")
    of_arrays.check_has_times(name, rule, times is not None)
    n = None if n_events is None else checked_int(name, "n_events", n_events)
    if times is not None:
        check_tensor(name, "times", times)
        if times.dtype not in (torch.int64, torch.float64):
            raise TypeError(f"{name}: times is {times.dtype}; expected int64 or float64")
        check_shape(name, "times", times, "N")
        n = times.shape[0] if n is None else n
    n = int(offsets[-1]) if n is None else n
    if n < 0 or (times is not None and n != times.shape[0]):
        expected = "0 or more" if times is None else f"the number of times, {times.shape[0]}"
        raise ValueError(f"{name}: there are {n} events; expected {expected}")
    return Segments(*torch.ops.seqrec_fast.session_segments(offsets, times, rule, n, *options))


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
        If the offsets are not int64, or the values of no floating type.
    ValueError
        If they are no partition of the rows.
    """
    check_floating("segment_mean", "values", values)
    check_rows("segment_mean", "values", values)
    check_offsets("segment_mean", "segment_offsets", segment_offsets, "S")
    rows = working(values).reshape(values.shape[0], values.shape[1:].numel())
    means: Tensor = _dispatch_ops.segment_sum(rows, segment_offsets, True)
    return means.reshape(means.shape[0], *values.shape[1:])


def expand_segments(
    per_segment: Tensor, segment_offsets: Tensor, n_events: SupportsIndex | None = None
) -> Tensor:
    """
    Give each event the row of its segment.

    Parameters
    ----------
    per_segment : (S, ...) Tensor
        Real numbers or bool; bfloat16 and float16 become float32, others keep their dtype.
    segment_offsets : (S + 1,) int64 Tensor
    n_events : int, optional
        What the offsets end at; read from them by default, which breaks a compiled graph.

    Returns
    -------
    (N, ...) Tensor

    Raises
    ------
    TypeError
        If the offsets are not int64, or the values complex.
    ValueError
        If they are no partition of the events or not for S segments.
    """
    name = "expand_segments"
    check_tensor(name, "per_segment", per_segment)
    if per_segment.is_complex():
        raise TypeError(f"{name}: per_segment is {per_segment.dtype}; expected real numbers")
    check_rows(name, "per_segment", per_segment)
    check_offsets(name, "segment_offsets", segment_offsets, per_segment.shape[0])
    n = int(segment_offsets[-1]) if n_events is None else checked_int(name, "n_events", n_events)
    if n < 0:
        raise ValueError(f"{name}: there are {n} events; expected 0 or more")
    whole = not per_segment.is_floating_point()
    rows = per_segment.long() if whole else working(per_segment)
    rows = rows.reshape(rows.shape[0], per_segment.shape[1:].numel())
    out: Tensor = _dispatch_ops.expand_segments(rows, segment_offsets, n, False)
    return out.to(per_segment.dtype if whole else out.dtype).reshape(n, *per_segment.shape[1:])


def segment_sum(values: Tensor, offsets: Tensor) -> Tensor:
    """
    Sum the rows of each segment, in their order.

    Parameters
    ----------
    values : (N, ...) Tensor
    offsets : (S + 1,) int64 Tensor
        Segment s is ``values[offsets[s]:offsets[s + 1]]``.

    Returns
    -------
    (S, ...) Tensor
        Zeros for an empty segment.

    Raises
    ------
    TypeError
        If offsets are not int64, or values of no floating type.
    ValueError
        If they are no partition of the rows; on CUDA they are not looked at.
    """
    _check_segments("segment_sum", "values", values, offsets)
    return sum_of(values, offsets)


def segment_softmax(scores: Tensor, offsets: Tensor) -> Tensor:
    """
    Return the softmax of each segment.

    Parameters
    ----------
    scores : (N,) Tensor
    offsets : (S + 1,) int64 Tensor
        Segment s is ``scores[offsets[s]:offsets[s + 1]]``.

    Returns
    -------
    (N,) Tensor

    Raises
    ------
    TypeError
        If offsets are not int64, or scores of no floating type.
    ValueError
        If `scores` is not one-dimensional, or offsets are no partition of it; on CUDA they
        are not looked at.
    """
    check_tensor("segment_softmax", "scores", scores)
    check_shape("segment_softmax", "scores", scores, "N")
    _check_segments("segment_softmax", "scores", scores, offsets)
    return softmax_of(scores, offsets)


def sum_of(values: Tensor, offsets: Tensor) -> Tensor:
    """Return :func:`segment_sum` of what is checked."""
    rows = working(values).reshape(values.shape[0], values.shape[1:].numel())
    sums: Tensor = _dispatch_ops.segment_sum(rows, offsets, False)
    return sums.reshape(sums.shape[0], *values.shape[1:])


def softmax_of(scores: Tensor, offsets: Tensor) -> Tensor:
    """Return :func:`segment_softmax` of what is checked."""
    rows = scores.shape[0]
    if rows == 0:
        return scores
    detached = scores.detach()
    if scores.is_cuda:  # torch.segment_reduce would look at the offsets
        largest = segment_max_cuda(detached, offsets)
    else:
        largest = torch.segment_reduce(detached, "max", offsets=offsets, axis=0)
    powers = (scores - expand_segments(largest, offsets, rows)).exp()
    return powers / expand_segments(sum_of(powers, offsets), offsets, rows)


def segment_max_cuda(scores: Tensor, offsets: Tensor) -> Tensor:
    """Return the largest of each segment; inside the arrays whatever the offsets are."""
    segments = offsets.shape[0] - 1
    numbers = torch.arange(segments, device=scores.device)
    of_rows = expand_segments(numbers, offsets, scores.shape[0])
    return scores.new_full((segments,), -torch.inf).scatter_reduce(0, of_rows, scores, "amax")


def _check_segments(function: str, argument: str, values: Tensor, offsets: Tensor) -> None:
    check_floating(function, argument, values)
    check_rows(function, argument, values)
    check_offsets(function, "offsets", offsets, "S")
    check_partition(function, "offsets", offsets, values.shape[0])
