"""Sessions inside histories, on tensors of any device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from seqrec_fast import segments as of_arrays

from ._devices import DEVICES, run
from ._tensors import array

__all__ = ["Segments", "session_segments"]

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
    run("segment_starts", dtype, offsets, rule, offsets, times, *options, starts, status)
    if int(status):  # the CPU says what is wrong
        _session_segments_cpu(
            offsets.cpu(), None if times is None else times.cpu(), rule, n_events, *options
        )
    first = starts.nonzero()[:, 0]
    none = offsets.new_zeros(1)
    before = torch.cat([none, starts.cumsum(0, dtype=torch.int64)])
    return torch.cat([first, none + n_events]), before.index_select(0, offsets)


_library.impl("session_segments", _session_segments_cpu, "CPU")
if "CUDA" in DEVICES:
    _library.impl("session_segments", _session_segments_cuda, "CUDA")
torch.library.register_fake("seqrec_fast::session_segments", _session_segments_fake, lib=_library)


def session_segments(
    offsets: Tensor,
    times: Tensor | None = None,
    *,
    rule: str = "window",
    window: int | None = None,
    gap: float | None = None,
    count: int | None = None,
    n_events: int | None = None,
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
        If a tensor has another dtype.
    ValueError
        If the offsets are no partition of the events, times decrease or are not finite, or an
        option is missing, out of range, or of another rule.
    """
    name = "session_segments"
    of_arrays.check_rule(name, rule, window, gap, count)
    if offsets.dtype != torch.int64:
        raise TypeError(f"{name}: offsets is {offsets.dtype}; expected int64")
    if offsets.dim() != 1 or offsets.shape[0] < 1:
        raise ValueError(f"{name}: offsets has shape {tuple(offsets.shape)}; expected (B + 1,)")
    of_arrays.check_has_times(name, rule, times is not None)
    if times is not None:
        if times.dtype not in (torch.int64, torch.float64):
            raise TypeError(f"{name}: times is {times.dtype}; expected int64 or float64")
        if times.dim() != 1:
            raise ValueError(f"{name}: times has shape {tuple(times.shape)}; expected (N,)")
        n_events = times.shape[0] if n_events is None else n_events
    n = int(offsets[-1]) if n_events is None else n_events
    if n < 0 or (times is not None and n != times.shape[0]):
        expected = "0 or more" if times is None else f"the number of times, {times.shape[0]}"
        raise ValueError(f"{name}: there are {n} events; expected {expected}")
    return Segments(
        *torch.ops.seqrec_fast.session_segments(
            offsets, times, rule, n, -1 if window is None else window,
            -1.0 if gap is None else float(gap), count or 0,
        )
    )  # fmt: skip
