"""Ragged sessions of item indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast.data.vocabulary import Ids, as_ids


@dataclass(frozen=True)
class Sessions:
    """Sessions of item indices, as one flat array with offsets.

    Attributes
    ----------
    items : (n_events,) int64 array
        Vocabulary indices, session after session, oldest event first.
    offsets : (n_sessions + 1,) int64 array
        Session ``i`` is ``items[offsets[i]:offsets[i + 1]]``.
    times : (n_events,) float64 array or None
        Seconds.
    session_ids : (n_sessions,) int64 or str array
        The user's ids; 0, 1, 2, ... where none are given.

    Raises
    ------
    ValueError
        If the offsets do not start at 0, decrease, or do not end at the number of events, or
        if an array has another length.
    TypeError
        If items or offsets are no integers.
    """

    items: NDArray[np.int64]
    offsets: NDArray[np.int64]
    times: NDArray[np.float64] | None = None
    session_ids: Ids = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Bring the arrays to their dtypes and check that they belong together."""
        items = integers("Sessions", "items", self.items)
        offsets = integers("Sessions", "offsets", self.offsets)
        object.__setattr__(self, "items", items)
        object.__setattr__(self, "offsets", offsets)
        if offsets.ndim != 1 or len(offsets) == 0 or offsets[0] != 0:
            raise ValueError("Sessions: offsets must be one-dimensional and start at 0")
        if (falls := np.flatnonzero(np.diff(offsets) < 0)).size:
            raise ValueError(f"Sessions: offsets decrease at position {falls[0] + 1}")
        if items.shape != (int(offsets[-1]),):
            raise ValueError(
                f"Sessions: items has shape {items.shape}; expected ({offsets[-1]},) from the "
                "last offset"
            )
        if self.times is not None:
            times = np.ascontiguousarray(self.times, dtype=np.float64)
            object.__setattr__(self, "times", times)
            if times.shape != items.shape:
                raise ValueError(
                    f"Sessions: times has shape {times.shape}; expected {items.shape} as items"
                )
        n_sessions = len(offsets) - 1
        ids = np.arange(n_sessions) if self.session_ids is None else self.session_ids
        object.__setattr__(self, "session_ids", as_ids(ids, "Sessions: session_ids"))
        if len(self.session_ids) != n_sessions:
            raise ValueError(
                f"Sessions: {len(self.session_ids)} session_ids; expected {n_sessions} from offsets"
            )

    @classmethod
    def from_lists(cls, sessions: Sequence[Sequence[int]]) -> Sessions:
        """Make sessions from lists of item indices.

        Examples
        --------
        >>> Sessions.from_lists([[3, 1], [2]]).offsets
        array([0, 2, 3])
        """
        lengths = [len(session) for session in sessions]
        items = [item for session in sessions for item in session]
        flat = integers("Sessions.from_lists", "sessions", items)
        return cls(flat, offsets_of(np.array(lengths, np.int64)))

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self.offsets) - 1

    def __getitem__(self, session: int) -> NDArray[np.int64]:
        """Return the items of one session, oldest first."""
        if not -len(self) <= session < len(self):
            raise IndexError(f"Sessions: no session {session}; there are {len(self)}")
        session %= len(self)
        return self.items[self.offsets[session] : self.offsets[session + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n_sessions,) int64 array: the number of events of each session."""
        return np.diff(self.offsets)

    @property
    def n_events(self) -> int:
        """The number of events of all sessions."""
        return len(self.items)

    def select(self, sessions: ArrayLike) -> Sessions:
        """Return some of the sessions.

        Parameters
        ----------
        sessions : (n_sessions,) bool array, or (n,) int array
            A mask, or session numbers in the wanted order.
        """
        chosen = np.asarray(sessions)
        if chosen.dtype == np.bool_:
            if chosen.shape != (len(self),):
                raise ValueError(
                    f"Sessions.select: mask has shape {chosen.shape}; expected ({len(self)},)"
                )
            chosen = np.flatnonzero(chosen)
        chosen = integers("Sessions.select", "sessions", chosen)
        lengths = self.lengths[chosen]
        return self._gather(chosen, self.offsets[:-1][chosen], lengths)

    def trimmed(self, last: ArrayLike) -> Sessions:
        """Return the sessions without their newest events.

        Parameters
        ----------
        last : int or (n_sessions,) int array
            How many events to leave out, for all sessions or for each.
        """
        lengths = np.maximum(self.lengths - integers("Sessions.trimmed", "last", last), 0)
        return self._gather(np.arange(len(self)), self.offsets[:-1], lengths)

    def sorted_by_start(self) -> Sessions:
        """Return the sessions ordered by the time of their first event, equal ones as before.

        Without times the order stays. Empty sessions come last.
        """
        if self.times is None:
            return self
        start = np.full(len(self), np.inf)
        filled = self.lengths > 0
        start[filled] = self.times[self.offsets[:-1][filled]]
        return self.select(np.argsort(start, kind="stable"))

    def split_last(self) -> tuple[Sessions, NDArray[np.int64]]:
        """Return each session without its last event, and that event's item.

        Raises
        ------
        ValueError
            If a session is empty.
        """
        if (empty := np.flatnonzero(self.lengths == 0)).size:
            raise ValueError(f"Sessions.split_last: session {empty[0]} is empty")
        return self.trimmed(last=1), self.items[self.offsets[1:] - 1]

    def _gather(
        self, sessions: NDArray[np.int64], begin: NDArray[np.int64], lengths: NDArray[np.int64]
    ) -> Sessions:
        events, offsets = gather(begin, lengths)
        times = None if self.times is None else self.times[events]
        return Sessions(self.items[events], offsets, times, self.session_ids[sessions])


def integers(function: str, argument: str, values: ArrayLike) -> NDArray[np.int64]:
    """Return integers as a contiguous int64 array; raise TypeError for others, but for none."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        raise TypeError(f"{function}: {argument} is {array.dtype}; expected integers")
    return np.asarray(array, dtype=np.int64, order="C")


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (n + 1,) offsets of n segments of these lengths."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def gather(
    begin: NDArray[np.int64], lengths: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the positions of several stretches, one after another, and their offsets."""
    offsets = offsets_of(lengths)
    return np.arange(offsets[-1]) + np.repeat(begin - offsets[:-1], lengths), offsets
