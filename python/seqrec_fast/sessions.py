"""Sessions that are answered while they go on: one event costs one step."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast import _core
from seqrec_fast._checks import checked_flag, checked_int
from seqrec_fast._keys import Key, Keys, checked_keys, key_list
from seqrec_fast._state_files import read_states, write_states
from seqrec_fast.data.vocabulary import Ids, as_ids
from seqrec_fast.recommender import Recommender

__all__ = ["SessionStore"]


class SessionStore:
    """Keeps the state of each session, so that a new event needs one step of the model.

    Made by :meth:`Recommender.sessions`. A session is named by its key, an int of 64 bits or a
    str. The answers are, bit for bit, those of :meth:`Recommender.recommend` on the whole
    sessions. Any number of threads may share a store; events of one key are applied in the order
    in which the calls arrive.

    It holds hidden_size float32 numbers per layer (for an LSTM, twice that) and 8 bytes per
    event of a session, until the session is forgotten or has to make room.

    Parameters
    ----------
    recommender : Recommender
        The model.
    capacity : int, optional
        Sessions that it keeps; beyond it, a new one takes the place of the one that was pushed to
        or asked for longest ago. By default all are kept.

    Raises
    ------
    ValueError
        If capacity is below 1.
    TypeError
        If it is no integer.

    Examples
    --------
    >>> store = load("model.safetensors").sessions()  # doctest: +SKIP
    >>> store.push(["alice", "bob"], [214821275, 214717867])  # doctest: +SKIP
    >>> items, scores = store.recommend(["alice"], k=5)  # doctest: +SKIP
    >>> store.forget(["alice"])  # doctest: +SKIP
    """

    def __init__(self, recommender: Recommender, capacity: int | None = None) -> None:
        if capacity is not None:
            capacity = checked_int("SessionStore", "capacity", capacity, 1)
        self._recommender = recommender
        self.capacity = capacity
        stack = recommender.stack
        store: Any = _core.SessionStoreF32
        if isinstance(stack, _core.RnnStackF64):
            store = _core.SessionStoreF64
        self._store = store(stack, capacity or 0, recommender.vocabulary.ids.tolist())

    def __len__(self) -> int:
        """Return the number of sessions."""
        return len(self._store)

    def __contains__(self, key: Key) -> bool:
        """Return whether a session has had an event whose item is known."""
        try:
            return bool(self._store.contains(key))
        except UnicodeEncodeError:
            checked_keys([key], "SessionStore")
            raise

    def push(self, keys: Keys, items: ArrayLike) -> None:
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
            If keys and items differ in length, or there are more sessions than the capacity.
            Nothing is changed then.
        TypeError
            If keys is no sequence, or a key or an item is neither an integer nor a string.
        """
        names = keys if type(keys) is list else key_list(keys, "SessionStore.push")
        try:
            if isinstance(items, list) and self._store.push(names, items):
                return
        except UnicodeEncodeError:  # an item is no text, and so unknown, or a key is none
            checked_keys(names, "SessionStore.push")
        self._push_any(names, items)

    def step(
        self, keys: Keys, items: ArrayLike, k: int = 20, exclude_seen: bool = False
    ) -> tuple[Ids, NDArray[np.float32]]:
        """Push one event to each session, then recommend for each of them.

        The same as :meth:`push` and :meth:`recommend` with these keys, in one call.

        Parameters
        ----------
        keys, items
            As in :meth:`push`.
        k, exclude_seen
            As in :meth:`recommend`.

        Returns
        -------
        items, scores : (n, min(k, n_items)) arrays
            As of :meth:`Recommender.recommend`, one row per key.

        Raises
        ------
        ValueError, TypeError
            As :meth:`push` and :meth:`recommend`.
        """
        names = keys if type(keys) is list else key_list(keys, "SessionStore.step")
        index = self._recommender.packed_items
        found, k = None, self._recommender.at_most_all(k, "SessionStore.step")
        if not isinstance(exclude_seen, bool):
            exclude_seen = checked_flag("SessionStore.step", "exclude_seen", exclude_seen)
        try:
            if isinstance(items, list):
                found = self._store.step(names, items, index, k, exclude_seen)
        except UnicodeEncodeError:
            checked_keys(names, "SessionStore.step")
        if found is None:
            self._push_any(names, items)
            found = self._store.recommend(names, index, k, exclude_seen)
        return self._recommender.named(found[1]), found[0]

    def recommend(
        self, keys: Keys, k: int = 20, exclude_seen: bool = False
    ) -> tuple[Ids, NDArray[np.float32]]:
        """Return the ``k`` items that are most likely to come next in each session.

        A key that has no session is answered like an empty session.

        Parameters
        ----------
        keys : (n,) sequence of int or str
        k : int
        exclude_seen : bool
            Leave out the items of the session.

        Returns
        -------
        items, scores : (n, min(k, n_items)) arrays
            As of :meth:`Recommender.recommend`.

        Raises
        ------
        ValueError
            If k is below 1, or a key is no Unicode text.
        TypeError
            If keys is no sequence, a key is neither an integer nor a string, or k is no integer.
        """
        names = key_list(keys, "SessionStore.recommend")
        recommender = self._recommender
        k = recommender.at_most_all(k, "SessionStore.recommend")
        if not isinstance(exclude_seen, bool):
            exclude_seen = checked_flag("SessionStore.recommend", "exclude_seen", exclude_seen)
        try:
            scores, found = self._store.recommend(names, recommender.packed_items, k, exclude_seen)
        except UnicodeEncodeError:
            checked_keys(names, "SessionStore.recommend")
            raise
        return self._recommender.named(found), scores

    def forget(self, keys: Keys) -> None:
        """Drop sessions; a key that has none is no error.

        Parameters
        ----------
        keys : sequence of int or str

        Raises
        ------
        TypeError
            If keys is no sequence, or a key is neither an integer nor a string.
        """
        names = key_list(keys, "SessionStore.forget")
        try:
            self._store.forget(names)
        except UnicodeEncodeError:
            checked_keys(names, "SessionStore.forget")
            raise

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all sessions to a file.

        It is written under another name, synced and renamed: whatever goes wrong, a file that
        stood under `path` before is still there.

        Parameters
        ----------
        path : str or path-like
            The file, in the safetensors format.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        keys, states, offsets, items = self._store.contents()
        arrays = {"states": states, "item_offsets": offsets, "items": items}
        write_states(path, "sessions", self._recommender.fingerprint(), keys, arrays)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Replace all sessions by those of a file that :meth:`save` has written.

        If there are more than the capacity, those whose last use was longest ago are left out.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is truncated or foreign, or its sessions are those of another model.
            Nothing is changed then.
        """
        fingerprint = self._recommender.fingerprint()
        with read_states(path, "sessions", fingerprint, "SessionStore.restore") as (keys, arrays):
            contents = (arrays["states"], arrays["item_offsets"], arrays["items"])
            out_of_range = (contents[2] < 0) | (contents[2] >= self._recommender.n_items)
            if out_of_range.any() or not np.isfinite(contents[0]).all():
                raise ValueError("an item or a state is out of range")
            self._store.replace(keys, *contents)

    def _push_any(self, names: list[Any], items: ArrayLike) -> None:
        """Push items of any form, some of them unknown."""
        ids = as_ids(items, "SessionStore.push: items")
        if len(names) != len(ids):
            raise ValueError(f"SessionStore.push: {len(names)} keys and {len(ids)} items")
        positions = self._recommender.vocabulary.index_of(ids)
        try:
            self._store.push_positions(names, positions)
        except UnicodeEncodeError:
            checked_keys(names, "SessionStore.push")
            raise
        if unknown := int(np.count_nonzero(positions < 0)):
            self._recommender.count_unknown(unknown)
