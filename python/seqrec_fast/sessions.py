"""Sessions that are answered while they go on: one event costs one step."""

from __future__ import annotations

import threading
from array import array
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast.data.vocabulary import Ids, as_ids
from seqrec_fast.recommender import Recommender

__all__ = ["SessionStore"]


class SessionStore:
    """Keeps the state of each session, so that a new event needs one step of the model.

    Made by :meth:`Recommender.sessions`. A session is named by its key, an int or a str. The
    answers are, bit for bit, those of :meth:`Recommender.recommend` on the whole sessions.
    Any number of threads may share a store; events of one key are applied in the order in
    which the calls arrive.

    It holds hidden_size float32 numbers per layer (for an LSTM, twice that) and 8 bytes per
    event of a session, until the session is forgotten.

    Parameters
    ----------
    recommender : Recommender
        The model.

    Examples
    --------
    >>> store = load("model.safetensors").sessions()  # doctest: +SKIP
    >>> store.push(["alice", "bob"], [214821275, 214717867])  # doctest: +SKIP
    >>> items, scores = store.recommend(["alice"], k=5)  # doctest: +SKIP
    >>> store.forget(["alice"])  # doctest: +SKIP
    """

    def __init__(self, recommender: Recommender) -> None:
        self._recommender = recommender
        shape = (recommender.n_states, 0, recommender.config["hidden_size"])
        self._states = np.zeros(shape, dtype=np.float32)
        self._slots: dict[Hashable, int] = {}
        self._free: list[int] = []
        self._seen: list[array[int]] = []
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._slots)

    def __contains__(self, key: Hashable) -> bool:
        """Return whether a session has had an event whose item is known."""
        return key in self._slots

    def push(self, keys: Sequence[Hashable] | NDArray[Any], items: ArrayLike) -> None:
        """Add one event to each session; a key that is new begins a session.

        A key may occur several times: its events are applied in their order. Events of items
        that the model does not know are skipped, and counted in
        :attr:`Recommender.unknown_items`.

        Parameters
        ----------
        keys : (n,) sequence of int or str
            Which session each event belongs to.
        items : (n,) sequence of int or str
            The item of each event, in the user's ids.

        Raises
        ------
        ValueError
            If keys and items differ in length.
        TypeError
            If keys is no sequence, or an item is neither an integer nor a string.
        """
        names = _keys(keys, "push")
        ids = as_ids(items, "SessionStore.push: items")
        if len(names) != len(ids):
            raise ValueError(f"SessionStore.push: {len(names)} keys and {len(ids)} items")
        # each event its own ragged row: those of unknown items become empty
        indices, bounds = self._recommender.known(ids, np.arange(len(ids) + 1))
        if len(indices) < len(names):
            names = [names[event] for event in np.flatnonzero(np.diff(bounds))]
        if not names:
            return
        numbers: dict[Hashable, int] = {}
        session = [numbers.setdefault(name, len(numbers)) for name in names]
        if len(numbers) == len(names):
            offsets = np.arange(len(names) + 1)
        else:
            offsets = np.concatenate([[0], np.cumsum(np.bincount(session))])
            indices = indices[np.argsort(session, kind="stable")]
        self._apply(list(numbers), indices, offsets)

    def recommend(
        self, keys: Sequence[Hashable] | NDArray[Any], k: int = 20, exclude_seen: bool = False
    ) -> tuple[Ids, NDArray[np.float32]]:
        """Return the ``k`` items that are most likely to come next in each session.

        A key that has no session is answered like an empty session.

        Parameters
        ----------
        keys : (B,) sequence of int or str
        k : int
            Length of the list.
        exclude_seen : bool
            Leave out the items of the session.

        Returns
        -------
        items, scores : (B, k) arrays
            As :meth:`Recommender.recommend`.

        Raises
        ------
        ValueError
            If k is below 1.
        TypeError
            If keys is no sequence.
        """
        names = _keys(keys, "recommend")
        state = np.zeros((self._states.shape[0], len(names), self._states.shape[2]), np.float32)
        seen: list[array[int]] = [array("q")] * len(names)
        with self._lock:
            for row, name in enumerate(names):
                slot = self._slots.get(name)
                if slot is not None:
                    state[:, row] = self._states[:, slot]
                    seen[row] = self._seen[slot][:] if exclude_seen else seen[row]
        exclude = None
        if exclude_seen:
            ends = np.cumsum([0, *map(len, seen)])
            exclude = np.concatenate([np.zeros(0, np.int64), *map(_as_array, seen)]), ends
        return self._recommender.best(state, k, exclude)

    def forget(self, keys: Sequence[Hashable] | NDArray[Any]) -> None:
        """Drop sessions; a key that has none is no error.

        Parameters
        ----------
        keys : sequence of int or str

        Raises
        ------
        TypeError
            If keys is no sequence.
        """
        names = _keys(keys, "forget")
        with self._lock:
            for name in names:
                slot = self._slots.pop(name, None)
                if slot is not None:
                    self._states[:, slot] = 0.0
                    self._seen[slot] = array("q")
                    self._free.append(slot)

    def _apply(
        self, names: list[Hashable], indices: NDArray[np.int64], offsets: NDArray[np.int64]
    ) -> None:
        """Advance distinct sessions by the known items of each."""
        with self._lock:
            slots = [self._slot(name) for name in names]
            before = np.take(self._states, slots, axis=1)
            after = self._recommender.advance(indices, offsets, before, outputs="last")[1]
            self._states[:, slots] = after
            bounds = offsets.tolist()
            items = indices.tolist()
            for number, slot in enumerate(slots):
                self._seen[slot].extend(items[bounds[number] : bounds[number + 1]])

    def _slot(self, key: Hashable) -> int:
        """Return the row of a session's state; a new session gets a row of zeros."""
        slot = self._slots.get(key)
        if slot is None:
            if not self._free:
                self._grow()
            slot = self._slots[key] = self._free.pop()
        return slot

    def _grow(self) -> None:
        n_states, rows, hidden_size = self._states.shape
        more = max(16, rows)
        zeros = np.zeros((n_states, more, hidden_size), dtype=np.float32)
        self._states = np.concatenate([self._states, zeros], axis=1)
        self._seen.extend(array("q") for _ in range(more))
        self._free.extend(reversed(range(rows, rows + more)))


def _keys(keys: Sequence[Hashable] | NDArray[Any], method: str) -> list[Hashable]:
    if isinstance(keys, str | bytes) or not hasattr(keys, "__iter__"):
        raise TypeError(
            f"SessionStore.{method}: keys is {keys!r}; expected a sequence of keys, such as "
            f"[{keys!r}]"
        )
    return keys.tolist() if isinstance(keys, np.ndarray) else list(keys)


def _as_array(seen: array[int]) -> NDArray[np.int64]:
    return np.frombuffer(seen, dtype=np.int64) if seen else np.zeros(0, np.int64)
