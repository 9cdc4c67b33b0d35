"""Users that are answered while their histories go on, by a theme mixture."""

from __future__ import annotations

import os
import threading
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from seqrec_fast._checks import checked_flag
from seqrec_fast._click_targets import checked_targets
from seqrec_fast._keys import Key, Keys, checked_keys
from seqrec_fast._state_files import read_states, write_states
from seqrec_fast._theme_states import ThemeStates, check_times
from seqrec_fast.data.sessions import Sessions, offsets_of
from seqrec_fast.data.vocabulary import Ids, as_ids
from seqrec_fast.theme_serving import Floats, Theme, ThemeRecommender, seconds

__all__ = ["ThemeStore"]


class ThemeStore:
    """Keeps the states of users, so that a new event changes those of its themes alone.

    Made by :meth:`ThemeRecommender.users`. A user is named by a key, an int of 64 bits or a str.
    States and answers are, bit for bit, those of the whole histories. Any number of threads may
    share a store; calls are applied one after another.

    It holds (n_themes + 2) * hidden_size + n_themes float32 numbers per user, and two integers
    per event.

    Parameters
    ----------
    recommender : ThemeRecommender
        The model.

    Examples
    --------
    >>> store = load("themes.safetensors").users()  # doctest: +SKIP
    >>> store.push(["alice", "bob"], [214821275, 214717867])  # doctest: +SKIP
    >>> items, scores = store.recommend(["alice"], k=5)  # doctest: +SKIP
    """

    def __init__(self, recommender: ThemeRecommender) -> None:
        self._recommender = recommender
        self._states = recommender.network.initial(0)
        self._slots: dict[Key, int] = {}
        self._free: list[int] = []
        self._events: dict[Key, list[tuple[int, int]]] = {}  # items and their first themes
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return the number of users."""
        return len(self._slots)

    def __contains__(self, key: Key) -> bool:
        """Return whether a user has had an event whose item is known."""
        return key in self._slots

    def push(self, keys: Keys, items: ArrayLike, times: ArrayLike | None = None) -> None:
        """Add one event to each user; a key that is new begins a history.

        Parameters
        ----------
        keys : (n,) sequence of int or str
            May hold a key several times: its events are applied in their order.
        items : (n,) sequence of int or str
            In the user's ids; unknown ones are skipped.
        times : (n,) array of float, optional
            Seconds, which do not decrease for a user; for all events of a user or for none.

        Raises
        ------
        ValueError
            If lengths differ, a key has more than 64 bits, a time is not finite, times of a user
            decrease, or only some of the user's events have one. Nothing is changed then.
        TypeError
            If keys is no sequence, or a key or an item is neither an integer nor a string.
        """
        function = "ThemeStore.push"
        keys = checked_keys(keys, function)
        ids = as_ids(items, f"{function}: items")
        if len(keys) != len(ids):
            raise ValueError(f"{function}: {len(ids)} items; expected {len(keys)}, as keys")
        when = None if times is None else seconds(f"{function}: times", times, len(ids))
        each = np.arange(len(ids) + 1)
        indices, bounds, when = self._recommender.known(ids, each, when)
        names = [key for key, n in zip(keys, np.diff(bounds), strict=True) if n]
        number = {key: i for i, key in enumerate(dict.fromkeys(names))}
        user = np.array([number[key] for key in names], np.int64)
        order = np.argsort(user, kind="stable")
        offsets = offsets_of(np.bincount(user, minlength=len(number)))
        when = None if when is None else when[order]
        with self._lock:
            states = self._states_of(list(number))
            check_times(function, states, offsets, when, list(number))
            themes = self._recommender.network.advance(states, indices[order], offsets, when)
            slots = np.array([self._slot(key) for key in number], np.int64)
            self._states.put(slots, states)
            first = themes[:, 0] if themes.shape[1] else np.zeros(len(themes), np.int64)
            for at, theme in zip(order.tolist(), first.tolist(), strict=True):
                self._events[names[at]].append((int(indices[at]), theme))

    def recommend(self, keys: Keys, k: int = 20, exclude_seen: bool = False) -> tuple[Ids, Floats]:
        """Return the ``k`` items that are most likely to come next for each user.

        As :meth:`ThemeRecommender.recommend`; a key without events is an empty history. Keys are
        checked as in :meth:`push`.
        """
        names = checked_keys(keys, "ThemeStore.recommend")
        exclude_seen = checked_flag("ThemeStore.recommend", "exclude_seen", exclude_seen)
        with self._lock:
            states = self._states_of(names)
            exclude = None
            if exclude_seen:
                seen = [[item for item, _ in self._events.get(key, [])] for key in names]
                lengths = np.array([len(one) for one in seen], np.int64)
                flat = np.array([item for one in seen for item in one], np.int64)
                exclude = flat, offsets_of(lengths)
        return self._recommender.best(states, k, exclude)

    def predict(self, keys: Keys, targets: ArrayLike) -> Floats:
        """Return the probability of a click on each target for each user.

        As :meth:`ThemeRecommender.predict`; a key without events is an empty history. Keys are
        checked as in :meth:`push`.

        Parameters
        ----------
        keys : (n,) sequence of int or str
        targets : (n,) or (n, C) array of item ids
            One target of each user, or C candidates.

        Returns
        -------
        (n,) or (n, C) float32 array
            NaN for a target that the model does not know.
        """
        function = "ThemeStore.predict"
        self._recommender.check_click_through(function)
        names = checked_keys(keys, function)
        wanted = checked_targets(function, self._recommender.vocabulary, targets, len(names))
        with self._lock:
            states = self._states_of(names)
        return self._recommender.click_probabilities(states, wanted)

    def explain(self, key: Key) -> list[Theme]:
        """Return the themes of a user, those of the session that goes on first.

        Raises
        ------
        KeyError
            If there is no such user.
        """
        with self._lock:
            if key not in self._slots:
                raise KeyError(f"ThemeStore.explain: no user {key!r}")
            logits = self._recommender.network.session_logits(
                self._states.rows(np.array([self._slots[key]]))
            )
            items, themes = np.array(self._events[key], np.int64).T
        return self._recommender.explained(logits[0], items, themes[:, None])

    def forget(self, keys: Keys) -> None:
        """Drop users; keys that are not there are skipped. Keys are checked as in :meth:`push`."""
        names = checked_keys(keys, "ThemeStore.forget")
        with self._lock:
            for key in names:
                if key in self._slots:
                    self._free.append(self._slots.pop(key))
                    del self._events[key]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all users to a file, atomically: whatever goes wrong, an older file stays.

        Parameters
        ----------
        path : str or path-like
            The file, in the safetensors format.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        with self._lock:
            keys = list(self._slots)
            states = self._states.rows(np.array(list(self._slots.values()), np.int64))
            histories = [self._events[key] for key in keys]
            events = np.array([event for history in histories for event in history], np.int64)
        items, themes = events.reshape(-1, 2).T
        arrays = {
            **vars(states),
            "item_offsets": offsets_of(np.array([len(one) for one in histories], np.int64)),
            "items": np.ascontiguousarray(items),
            "first_themes": np.ascontiguousarray(themes),
        }
        write_states(path, "themes", self._recommender.fingerprint(), keys, arrays)

    def restore(self, path: str | os.PathLike[str]) -> None:
        """Replace all users by those of a file that :meth:`save` has written.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If the file is truncated or foreign, or its users are those of another model. Nothing
            is changed then.
        """
        network, fingerprint = self._recommender.network, self._recommender.fingerprint()
        with read_states(path, "themes", fingerprint, "ThemeStore.restore") as (keys, arrays):
            states = network.initial(len(keys))
            for name, empty in vars(states).items():
                values = arrays[name]
                if values.shape != empty.shape or values.dtype != empty.dtype:
                    raise ValueError(f"{name} is {values.dtype} of shape {values.shape}")
                if name != "time" and not np.isfinite(values).all():
                    raise ValueError(f"{name} is not finite")
                setattr(states, name, np.array(values))
            histories = Sessions(arrays["items"], arrays["item_offsets"])
            themes = arrays["first_themes"]
            if len(histories) != len(keys) or themes.shape != histories.items.shape:
                raise ValueError("keys, items and themes do not fit together")
            limits = (self._recommender.n_items, max(network.n_themes, 1))
            for values, limit in zip((histories.items, themes), limits, strict=True):
                if ((values < 0) | (values >= limit)).any():
                    raise ValueError("an item or a theme is out of range")
            pairs = list(zip(histories.items.tolist(), themes.tolist(), strict=True))
            bounds = pairwise(histories.offsets.tolist())
            events = {key: pairs[a:b] for key, (a, b) in zip(keys, bounds, strict=True)}
            if len(events) != len(keys):
                raise ValueError("a key stands there twice")
        with self._lock:
            self._states, self._free, self._events = states, [], events
            self._slots = {key: slot for slot, key in enumerate(keys)}

    def _states_of(self, keys: list[Key]) -> ThemeStates:
        """Return a copy of the states of users, those before the first event for new ones."""
        states = self._recommender.network.initial(len(keys))
        known = [(row, self._slots[key]) for row, key in enumerate(keys) if key in self._slots]
        if known:
            rows, slots = np.array(known).T
            states.put(rows, self._states.rows(slots))
        return states

    def _slot(self, key: Key) -> int:
        """Return the row of a user, for a new user a free one, whose states are to be put."""
        if key in self._slots:
            return self._slots[key]
        network = self._recommender.network
        if not self._free:
            size = len(self._states.count)
            grown = network.initial(max(2 * size, 64))
            grown.put(np.arange(size), self._states)
            self._states = grown
            self._free = list(range(len(grown.count) - 1, size - 1, -1))
        slot = self._free.pop()
        self._slots[key], self._events[key] = slot, []
        return slot
