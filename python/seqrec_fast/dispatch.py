"""Ragged sequences split by expert: one subsequence per expert and sequence, in time order."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._checks import checked_int
from ._item_queries import checked

__all__ = ["Dispatch", "StreamingDispatch", "dispatch_by_expert"]


class Dispatch(NamedTuple):
    """
    Where the events of a ragged batch go.

    The subsequence of expert m and sequence b is number ``m * B + b``; its rows are those from
    ``offsets[m * B + b]`` on, oldest first. So ``index`` and ``offsets`` are a ragged batch of
    ``num_experts * B`` sequences, and rows ``offsets[m * B]`` to ``offsets[(m + 1) * B]`` are all
    of expert m.
    """

    #: (nnz,) int64: the event of each row.
    index: NDArray[np.int64]  # type: ignore[assignment]  # a tuple has a method of this name
    #: (nnz,) int64: which choice made the row, a position in ``expert_ids``.
    slot: NDArray[np.int64]
    #: (num_experts * B + 1,) int64.
    offsets: NDArray[np.int64]
    #: (N, k) int64: the row of each choice, -1 for none; the inverse of ``slot``.
    position: NDArray[np.int64]


def dispatch_by_expert(
    offsets: ArrayLike,
    expert_ids: ArrayLike,
    num_experts: SupportsIndex,
    *,
    capacity: SupportsIndex | None = None,
) -> Dispatch:
    """
    Split each sequence into one subsequence per expert, in time order.

    Parameters
    ----------
    offsets : (B + 1,) int64 array
        Sequence b holds the events from ``offsets[b]`` to ``offsets[b + 1]``, oldest first.
    expert_ids : (N,) or (N, k) int64 array
        The experts of each event, each at most once; -1 for none.
    num_experts : int
    capacity : int, optional
        Events that a subsequence keeps: the newest. By default all.

    Returns
    -------
    Dispatch

    Raises
    ------
    TypeError
        If an array has another dtype, or an option is no integer.
    ValueError
        If an expert is out of range or twice in a row, the offsets are no partition of the events,
        or an option is out of range.
    """
    name = "dispatch_by_expert"
    limits, ids = (
        checked(name, "offsets", offsets, np.int64),
        checked(name, "expert_ids", expert_ids, np.int64),
    )
    if ids.ndim not in (1, 2):
        raise ValueError(f"{name}: expert_ids has shape {ids.shape}; expected (N,) or (N, k)")
    experts = checked_int(name, "num_experts", num_experts, 1)
    kept = -1 if capacity is None else checked_int(name, "capacity", capacity)
    rows = ids if ids.ndim == 2 else ids[:, None]
    return Dispatch(*_core.dispatch_by_expert(limits, rows, experts, kept))


class StreamingDispatch:
    """
    Sends the events of one sequence to experts one by one.

    After any event :meth:`dispatch` equals :func:`dispatch_by_expert` of all events so far.

    Parameters
    ----------
    num_experts : int
    capacity : int, optional
        Events that an expert keeps: the newest. Memory is then bounded.

    Raises
    ------
    TypeError
        If an argument is no integer.
    ValueError
        If an argument is out of range.
    """

    def __init__(
        self, num_experts: SupportsIndex, *, capacity: SupportsIndex | None = None
    ) -> None:
        name = type(self).__name__
        kept = None if capacity is None else checked_int(name, "capacity", capacity)
        self._experts: list[deque[tuple[int, int]]] = [
            deque(maxlen=kept) for _ in range(checked_int(name, "num_experts", num_experts, 1))
        ]
        self._k: int | None = None
        #: Events so far.
        self.n_events = 0

    def append(self, expert_ids: SupportsIndex | ArrayLike) -> int:
        """
        Send the next event to its experts and return its number.

        Parameters
        ----------
        expert_ids : int or (k,) integer array
            As many for each event; -1 for none.

        Raises
        ------
        TypeError
            If they are no integers.
        ValueError
            If one is out of range or comes twice, or there are more or fewer than before.
        """
        name = type(self).__name__
        ids = np.atleast_1d(np.asarray(expert_ids))
        if ids.dtype.kind not in "iu":
            raise TypeError(f"{name}: expert_ids are {ids.dtype}; expected integers")
        if ids.ndim != 1 or (self._k is not None and len(ids) != self._k):
            raise ValueError(
                f"{name}: expert_ids has shape {ids.shape}; expected "
                f"({'k' if self._k is None else self._k},)"
            )
        chosen = [int(i) for i in ids if i != -1]
        wrong = next((i for i in chosen if not 0 <= i < len(self._experts)), None)
        if wrong is not None:
            raise ValueError(
                f"{name}: expert_ids holds {wrong}; expected -1 to {len(self._experts) - 1}"
            )
        if len(set(chosen)) != len(chosen):
            raise ValueError(
                f"{name}: expert_ids are {ids.tolist()}; expected each expert at most once"
            )
        self._k = len(ids)
        for j, expert in enumerate(ids.tolist()):
            if expert >= 0:
                self._experts[expert].append((self.n_events, self.n_events * self._k + j))
        self.n_events += 1
        return self.n_events - 1

    def events_of(self, expert: SupportsIndex) -> NDArray[np.int64]:
        """Return the numbers of the events that `expert` has, oldest first."""
        name = "StreamingDispatch.events_of"
        expert = checked_int(name, "expert", expert, 0, len(self._experts) - 1)
        return np.array([event for event, _ in self._experts[expert]], np.int64)

    def dispatch(self) -> Dispatch:
        """Return where all events so far went, as of a batch of one sequence."""
        pairs = np.array([pair for queue in self._experts for pair in queue], np.int64)
        index, slot = pairs.reshape(-1, 2).T.copy()
        offsets = np.zeros(len(self._experts) + 1, np.int64)
        np.cumsum([len(queue) for queue in self._experts], out=offsets[1:])
        position = np.full(self.n_events * (self._k or 0), -1, np.int64)
        position[slot] = np.arange(len(slot))
        return Dispatch(index, slot, offsets, position.reshape(self.n_events, self._k or 0))
