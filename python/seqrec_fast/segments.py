"""Sessions inside a history: where a sequence of events is cut."""

from __future__ import annotations

from typing import Any, NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._checks import check_choice, checked_int, checked_number
from ._item_queries import checked
from .gating import checked_bias, checked_mask, checked_options

__all__ = ["SegmentRoute", "Segments", "StreamingSegments", "route_segments", "session_segments"]

_RULES = ("window", "gap", "top_gaps")


class Segments(NamedTuple):
    """Segments of a ragged batch; a sequence without events has none."""

    #: (S + 1,) int64: segment s holds the events from ``offsets[s]`` to ``offsets[s + 1]``.
    offsets: NDArray[np.int64]
    #: (B + 1,) int64: the segments of each sequence.
    sequence_offsets: NDArray[np.int64]


def checked_rule(
    function: str,
    rule: str,
    window: SupportsIndex | None,
    gap: float | None,
    count: SupportsIndex | None,
) -> tuple[int, float, int]:
    """Return the options as the kernels take them; only that of the rule may be there."""
    check_choice(function, "rule", rule, _RULES)
    needed = {"window": "window", "gap": "gap", "top_gaps": "count"}[rule]
    for name, value in (("window", window), ("gap", gap), ("count", count)):
        if name == needed and value is None:
            raise ValueError(f"{function}: {name} is missing; rule {rule!r} needs it")
        if name != needed and value is not None:
            raise ValueError(f"{function}: {name} is {value}; rule {rule!r} has none")
    span = -1.0 if gap is None else checked_number(function, "gap", gap)
    if gap is not None and not span >= 0:
        raise ValueError(f"{function}: gap is {gap}; expected 0 or more")
    return (
        -1 if window is None else checked_int(function, "window", window, 1),
        span,
        0 if count is None else checked_int(function, "count", count, 1),
    )


def check_has_times(function: str, rule: str, given: bool) -> None:
    """Raise ValueError unless there are times for the rules that need them alone."""
    if given == (rule == "window"):
        raise ValueError(
            f"{function}: times are {'given' if given else 'missing'}; rule {rule!r} "
            f"{'has none' if given else 'needs them'}"
        )


def session_segments(
    offsets: ArrayLike,
    times: ArrayLike | None = None,
    *,
    rule: str = "window",
    window: SupportsIndex | None = None,
    gap: float | None = None,
    count: SupportsIndex | None = None,
) -> Segments:
    """
    Cut each sequence of a ragged batch into segments.

    Parameters
    ----------
    offsets : (B + 1,) int64 array
        Sequence b holds the events from ``offsets[b]`` to ``offsets[b + 1]``, oldest first.
    times : (N,) int64 or float64 array, optional
        Never decreasing inside a sequence; rule ``"window"`` has none.
    rule : {"window", "gap", "top_gaps"}
        ``"window"``: `window` events each, from the oldest on. ``"gap"``: a new segment where more
        than `gap` has passed since the event before (30 minutes is common). ``"top_gaps"``: cut at
        the ``count - 1`` largest gaps that are not 0, of equal ones at the earliest.
    window : int
        Of rule ``"window"``; at least 1.
    gap : float
        Of rule ``"gap"``, in the unit of `times`; at least 0.
    count : int
        Of rule ``"top_gaps"``; at least 1.

    Returns
    -------
    Segments

    Raises
    ------
    TypeError
        If an array has another dtype, or an option another type.
    ValueError
        If the offsets are no partition of the events, times decrease or are not finite, or an
        option is missing, out of range, or of another rule.
    """
    name = "session_segments"
    options = checked_rule(name, rule, window, gap, count)
    limits = _checked_vector(name, "offsets", offsets, "B + 1", (np.int64,))
    check_has_times(name, rule, times is not None)
    if times is None:
        return Segments(*_core.session_segments_i64(rule, limits, None, *options))
    stamps = _checked_vector(name, "times", times, "N", (np.int64, np.float64))
    integers = stamps.dtype == np.int64
    kernel: Any = _core.session_segments_i64 if integers else _core.session_segments_f64
    return Segments(*kernel(rule, limits, stamps, *options))


def _checked_vector(
    function: str, argument: str, value: ArrayLike, size: str, dtypes: tuple[Any, ...]
) -> NDArray[Any]:
    array = np.asarray(value)
    if array.dtype not in dtypes:
        expected = " or ".join(dtype.__name__ for dtype in dtypes)
        raise TypeError(f"{function}: {argument} is {array.dtype}; expected {expected}")
    if array.ndim != 1:
        raise ValueError(f"{function}: {argument} has shape {array.shape}; expected ({size},)")
    return np.ascontiguousarray(array)


class SegmentRoute(NamedTuple):
    """Where each segment goes."""

    #: (S, k): 0 where no candidate is left.
    weights: NDArray[Any]
    #: (S, k) int64: -1 there.
    expert_ids: NDArray[np.int64]
    #: (S, D): means of the segments.
    means: NDArray[Any]
    #: (S, M): what experts were chosen by.
    logits: NDArray[Any]


def route_segments(
    values: ArrayLike,
    segment_offsets: ArrayLike,
    prototypes: ArrayLike,
    k: SupportsIndex,
    *,
    score: str = "softmax",
    order: str = "score_then_topk",
    renormalize: bool = True,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    scale: float = 1.0,
) -> SegmentRoute:
    """
    Choose k experts for each segment by the mean of its events, in one pass.

    The logit of an expert is the dot product of its prototype and the mean; choice and weights are
    those of :func:`seqrec_fast.expert_gate`. A segment's route depends on its own events alone, to
    the last bit: its mean as one event (``StreamingSegments.ended_mean``) gives the same.

    Parameters
    ----------
    values : (N, D) float32 or float64 array
    segment_offsets : (S + 1,) int64 array
        Segment s holds the events from ``segment_offsets[s]`` to ``segment_offsets[s + 1]``.
    prototypes : (M, D) array of the dtype of `values`
    k : int
        1 to M.
    score, order, renormalize, bias, mask, scale
        As :func:`seqrec_fast.expert_gate` has them; a mask of (M,) or (S, M).

    Returns
    -------
    SegmentRoute

    Raises
    ------
    TypeError
        If an array has another dtype, or an option another type.
    ValueError
        If a shape does not fit, the offsets are no partition of the events, or an option is out of
        range.
    """
    name = "route_segments"
    rows = np.ascontiguousarray(values)
    if rows.dtype not in (np.float32, np.float64):
        raise TypeError(f"{name}: values is {rows.dtype}; expected float32 or float64")
    dtype = np.float32 if rows.dtype == np.float32 else np.float64
    cuts = checked(name, "segment_offsets", segment_offsets, np.int64)
    weight = checked(name, "prototypes", prototypes, dtype)
    if rows.ndim != 2:
        raise ValueError(f"{name}: values has shape {rows.shape}; expected (N, D)")
    if weight.ndim != 2 or weight.shape[1] != rows.shape[1]:
        raise ValueError(
            f"{name}: prototypes has shape {weight.shape}; expected (M, {rows.shape[1]})"
        )
    experts = len(weight)
    k, *options = checked_options(name, experts, k, score, order, renormalize, scale)
    segments = max(cuts.size - 1, 0)
    offset = checked_bias(name, bias, experts, rows.dtype)
    allowed = checked_mask(name, mask, segments, experts)
    route = SegmentRoute(
        np.empty((segments, k), dtype),
        np.empty((segments, k), np.int64),
        np.empty((segments, rows.shape[1]), dtype),
        np.empty((segments, experts), dtype),
    )
    kernel: Any = _core.route_segments_f32 if dtype == np.float32 else _core.route_segments_f64
    kernel(
        rows, cuts, weight, k, *options[:3], offset, allowed, options[3],
        route.means, route.logits, route.weights, route.expert_ids,
    )  # fmt: skip
    return route


class StreamingSegments:
    """
    Cuts one sequence event by event, at the same events as :func:`session_segments`.

    Parameters
    ----------
    rule : {"window", "gap"}
        The largest gaps of a history are known at its end alone, so ``"top_gaps"`` is refused.
    window, gap
        As of :func:`session_segments`.

    Raises
    ------
    TypeError
        If an option has another type.
    ValueError
        If the rule needs the whole history, or an option is missing or out of range.
    """

    def __init__(
        self,
        rule: str = "window",
        *,
        window: SupportsIndex | None = None,
        gap: float | None = None,
    ) -> None:
        name = type(self).__name__
        if rule == "top_gaps":
            raise ValueError(
                f"{name}: rule is 'top_gaps', which needs the whole history; expected window or gap"
            )
        width, span, _ = checked_rule(name, rule, window, gap, None)
        self._window = None if window is None else width
        self._gap = None if gap is None else span
        self._time: float | None = None
        self._starts: list[int] = []
        self._total: NDArray[np.floating] | None = None
        #: Events so far.
        self.n_events = 0
        #: Mean of the values of the last segment that ended; None before.
        self.ended_mean: NDArray[np.floating] | None = None

    def append(self, time: float | None = None, value: ArrayLike | None = None) -> bool:
        """
        Add an event and say whether a segment starts with it.

        Parameters
        ----------
        time : float or int, optional
            Of rule ``"gap"``; never below that of the event before.
        value : (d,) array, optional
            Its mean over a segment is kept, with the bits of ``nn.functional.segment_mean``.

        Raises
        ------
        TypeError
            If the time is no number.
        ValueError
            If the time is missing, decreases, is not finite, or the rule has none.
        """
        name = type(self).__name__
        if (time is None) != (self._gap is None):
            raise ValueError(f"{name}: time is {time}; rule gap needs one and rule window has none")
        time = None if time is None else _exact(name, time)
        if time is not None and self._time is not None and time < self._time:
            raise ValueError(f"{name}: times decrease from {self._time} to {time}")
        starts = not self._starts
        if not starts and self._window is not None:
            starts = self.n_events - self._starts[-1] >= self._window
        elif not starts and time is not None and self._time is not None and self._gap is not None:
            # Differences of integers are exact, and rounded once, as the kernels have them.
            starts = float(time - self._time) > self._gap
        if starts:
            self.ended_mean = self.mean if self._starts else None
            self._starts.append(self.n_events)
            self._total = None
        if value is not None:
            row = np.asarray(value)
            # 0 + x as the kernels have it: -0 becomes 0
            self._total = (np.zeros_like(row) if self._total is None else self._total) + row
        self._time = time
        self.n_events += 1
        return starts

    @property
    def mean(self) -> NDArray[np.floating] | None:
        """Mean of the values of the segment that is open; None without values."""
        if self._total is None:
            return None
        return self._total / self._total.dtype.type(self.n_events - self._starts[-1])

    @property
    def segments(self) -> Segments:
        """The segments so far, the open one included, of a batch of one sequence."""
        offsets = np.array([*self._starts, self.n_events], np.int64)
        return Segments(offsets, np.array([0, len(self._starts)], np.int64))


def _exact(function: str, time: Any) -> int | float:
    """Return a time as a number of Python, whose differences do not overflow."""
    if isinstance(time, np.ndarray | np.generic) and np.ndim(time) == 0:
        time = time.item()
    if isinstance(time, int):
        return checked_int(function, "time", time, -(2**63))
    return checked_number(function, "time", time, finite=True)
