"""Mini-batches of sessions: whole sessions, or one event at a time in parallel lanes."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from seqrec_fast.data import Sessions
from seqrec_fast.data.sessions import gather, offsets_of

from .devices import moved

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """
    Events of one optimiser step, each with the event that follows it in its session.

    Attributes
    ----------
    items, targets : (events,) int64 Tensor
        Each event's item, and the item of the next event of its session.
    offsets : (B + 1,) int64 Tensor
        Sequence b is ``items[offsets[b]:offsets[b + 1]]``.
    reset : (events,) bool Tensor or None
        True where a session starts. None: every sequence starts from a state of zeros. Else
        sequence b goes on from the state after sequence b of the batch before, whose surplus
        sequences are over.
    times : (events,) float64 Tensor or None
        Seconds, for models that use them.
    """

    items: Tensor
    targets: Tensor
    offsets: Tensor
    reset: Tensor | None = None
    times: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """Return a batch of the CPU on a device."""
        parts = (self.items, self.targets, self.offsets, self.reset, self.times)
        return Batch(*(moved(part, device) for part in parts))  # type: ignore[arg-type]


class Batches(Protocol):
    """A way to cut sessions into mini-batches; ``len()`` is the number of them per epoch."""

    def __len__(self) -> int: ...

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield every pair of neighbouring events once."""
        ...


class WholeSessionBatches:
    """
    Whole sessions in random order, with back-propagation through all their events.

    Parameters
    ----------
    sessions : Sessions
    batch_size : int
        Sessions in a batch; the last one may be smaller.
    max_length : int
        Sessions of more pairs of neighbouring events are cut into pieces of this many pairs
        or fewer, each of which starts from a state of zeros.
    with_times : bool
        Batches have the times of events, where the sessions have them.

    Raises
    ------
    ValueError
        If no session has two events, or a size is below 1.
    """

    def __init__(
        self, sessions: Sessions, batch_size: int, max_length: int, *, with_times: bool = False
    ) -> None:
        _check_sizes("WholeSessionBatches", batch_size=batch_size, max_length=max_length)
        pairs = _pairs("WholeSessionBatches", sessions)
        pieces = -(-pairs // max_length)
        owner = np.repeat(np.arange(len(pairs)), pieces)
        first = (np.arange(len(owner)) - offsets_of(pieces)[owner]) * max_length
        self._items = sessions.items
        self._times = sessions.times if with_times else None
        self._begin = sessions.offsets[owner] + first
        self._length = np.minimum(pairs[owner] - first, max_length)
        self._batch_size = batch_size

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-len(self._begin) // self._batch_size)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield all sessions, in an order drawn from `rng`."""
        order = rng.permutation(len(self._begin))
        for start in range(0, len(order), self._batch_size):
            chosen = order[start : start + self._batch_size]
            events, offsets = gather(self._begin[chosen], self._length[chosen])
            yield Batch(
                torch.from_numpy(self._items[events]),
                torch.from_numpy(self._items[events + 1]),
                torch.from_numpy(offsets),
                times=None if self._times is None else torch.from_numpy(self._times[events]),
            )


class SessionParallelBatches:
    """
    The mini-batches of GRU4Rec: lanes that each run through one session after another.

    Sessions are taken in order of their first event. A lane whose session is over takes the
    next one and its state is reset. When no session is left, lanes drop out and batches get
    smaller, so that no event is lost.

    Parameters
    ----------
    sessions : Sessions
    batch_size : int
        Lanes.
    bptt : int
        Events of each lane in a batch. The state goes on to the next batch, its gradient does
        not.

    Raises
    ------
    ValueError
        If no session has two events, or a size is below 1.
    """

    def __init__(self, sessions: Sessions, batch_size: int, bptt: int = 1) -> None:
        _check_sizes("SessionParallelBatches", batch_size=batch_size, bptt=bptt)
        sessions = sessions.sorted_by_start()
        pairs = _pairs("SessionParallelBatches", sessions)
        lane = _assign_lanes(pairs, batch_size)
        order = np.argsort(lane, kind="stable")
        order = order[pairs[order] > 0]
        events, starts = gather(sessions.offsets[order], pairs[order])
        length = np.bincount(lane, pairs).astype(np.int64)
        self._items, self._targets = sessions.items[events], sessions.items[events + 1]
        self._reset = np.zeros(len(events), dtype=np.bool_)
        self._reset[starts[:-1]] = True
        # longest lane first: those that are over are then the last of a batch
        longest = np.argsort(-length, kind="stable")
        self._begin, self._length = offsets_of(length)[longest], length[longest]
        self._bptt = bptt

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return -(-int(self._length[0]) // self._bptt)

    def epoch(self, rng: np.random.Generator) -> Iterator[Batch]:
        """Yield all sessions in their order; `rng` is not used."""
        for step in range(0, int(self._length[0]), self._bptt):
            left = self._length - step
            lanes = int(np.count_nonzero(left > 0))
            events, offsets = gather(
                self._begin[:lanes] + step, np.minimum(left[:lanes], self._bptt)
            )
            yield Batch(
                torch.from_numpy(self._items[events]),
                torch.from_numpy(self._targets[events]),
                torch.from_numpy(offsets),
                torch.from_numpy(self._reset[events]),
            )


def _check_sizes(caller: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{caller}: {name} is {size}; expected at least 1")


def _pairs(caller: str, sessions: Sessions) -> Ints:
    """Return the number of pairs of neighbouring events of each session."""
    pairs = np.maximum(sessions.lengths - 1, 0)
    if not pairs.any():
        raise ValueError(f"{caller}: none of {len(sessions)} sessions has two events")
    return pairs


def _assign_lanes(pairs: Ints, batch_size: int) -> Ints:
    """Return the lane of each session: the first one to be free, the lowest among equals."""
    lanes = min(batch_size, int(np.count_nonzero(pairs)))
    free = [(0, lane) for lane in range(lanes)]
    assigned = np.zeros(len(pairs), dtype=np.int64)
    for session, length in enumerate(pairs.tolist()):
        if length:
            end, assigned[session] = free[0]
            heapq.heapreplace(free, (end + length, int(assigned[session])))
    return assigned
