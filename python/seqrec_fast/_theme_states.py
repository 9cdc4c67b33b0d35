"""What a theme mixture knows of its users, and how an event changes it, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

import seqrec_fast as sf
from seqrec_fast._click_layers import linear
from seqrec_fast._theme_mixture_format import THEME_SCALE

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass
class ThemeStates:
    """The states of n users, one row each.

    Attributes
    ----------
    recent : (n, H) array
        State of the network over the whole history.
    themes : (n, n_themes, H) array
        State of the expert of each theme.
    embedding_sum, logit_sum : (n, H) and (n, n_themes) array
        Over the events of the session that goes on.
    count : (n,) int64 array
        How many these are.
    time : (n,) float64 array
        Of the last event, NaN if it has none.
    """

    recent: Floats
    themes: Floats
    embedding_sum: Floats
    logit_sum: Floats
    count: Ints
    time: NDArray[np.float64]

    @classmethod
    def initial(cls, n: int, n_themes: int, hidden_size: int) -> ThemeStates:
        """Return the states of n users before their first event."""
        f32 = np.float32
        return cls(
            np.zeros((n, hidden_size), f32),
            np.zeros((n, n_themes, hidden_size), f32),
            np.zeros((n, hidden_size), f32),
            np.zeros((n, n_themes), f32),
            np.zeros(n, np.int64),
            np.full(n, np.nan),
        )

    def rows(self, users: Ints) -> ThemeStates:
        """Return a copy of some users' states."""
        return ThemeStates(*(array[users] for array in vars(self).values()))

    def put(self, users: Ints, states: ThemeStates) -> None:
        """Replace some users' states."""
        for name, array in vars(states).items():
            getattr(self, name)[users] = array


class ThemeNetwork:
    """The weights of a theme mixture, and its steps."""

    def __init__(self, config: dict[str, Any], tensors: dict[str, Floats], **options: Any) -> None:
        self.config = config
        self.embedding = tensors["embedding.weight"]
        self.n_themes, self.k = config["n_themes"], config["k"]
        self._fusion = tensors["fusion.weight"], tensors["fusion.bias"]
        options["embedding"] = self.embedding
        self.recent_rnn = sf.GRU.from_state_dict(tensors, prefix="global_rnn.", **options)
        self.item_logits = np.zeros((len(self.embedding), 0), np.float32)
        if self.n_themes:
            self.theme_rnn = sf.GRU.from_state_dict(tensors, prefix="theme_rnn.", **options)
            length = np.linalg.norm(self.embedding, axis=1, keepdims=True)
            unit = self.embedding / np.maximum(length, np.float32(1e-12)) * np.float32(THEME_SCALE)
            self.item_logits = unit @ tensors["gate.weight"].T

    def initial(self, n: int) -> ThemeStates:
        """Return the states of n users before their first event."""
        return ThemeStates.initial(n, self.n_themes, self.config["hidden_size"])

    def advance(
        self,
        states: ThemeStates,
        items: Ints,
        offsets: Ints,
        times: NDArray[np.float64] | None,
    ) -> Ints:
        """Apply events to states, which change; return the (events, k) themes they went to.

        User b's events are ``items[offsets[b]:offsets[b + 1]]``. The result is the same, bit for
        bit, whether events come at once or in several calls.
        """
        filled = np.flatnonzero(np.diff(offsets))
        if not len(filled):
            return np.zeros((0, self.k), np.int64)
        state = states.recent[None]
        states.recent = self.recent_rnn(items, state, offsets, outputs="last")[1][0]
        first, count = self._cut(states, offsets, times)
        last = offsets[filled + 1] - 1
        sums = _running(self.embedding[items], states.embedding_sum, offsets, first)
        states.embedding_sum[filled] = sums[last]
        sums = _running(self.item_logits[items], states.logit_sum, offsets, first)
        states.logit_sum[filled] = sums[last]
        states.count[filled] = count[last]
        if times is not None:
            states.time[filled] = times[last]
        if not self.n_themes:
            return np.zeros((len(items), 0), np.int64)
        themes = self.route(_means(sums, count))[1]
        self._advance_themes(states, items, offsets, themes)
        return themes

    def route(self, logits: Floats) -> tuple[Floats, Ints]:
        """Return (n, k) weights and themes for (n, n_themes) logits."""
        weights, themes = sf.expert_gate(logits, self.k, renormalize=False)
        return weights, themes

    def session_logits(self, states: ThemeStates) -> Floats:
        """Return the (n, n_themes) logits of the session that goes on."""
        return _means(states.logit_sum, states.count)

    def hidden(self, states: ThemeStates, logits: Floats, users: Ints | None = None) -> Floats:
        """Return the (n, H) vectors that items are scored with, the theme being of `logits`.

        Row i is of user ``users[i]``, by default of user i.
        """
        if users is None:
            users = np.arange(len(logits))
        sums, count = states.embedding_sum[users], states.count[users]
        told = [states.recent[users], _means(sums, count)]
        if self.n_themes:
            weights, themes = self.route(logits)
            told.append((weights[:, :, None] * states.themes[users[:, None], themes]).sum(1))
        return self._fused(told)

    def outputs(self, items: Ints, offsets: Ints, times: NDArray[np.float64] | None) -> Floats:
        """Return the (events, H) vectors that items are scored with after each event.

        The histories are whole: they begin with the first of `items`.
        """
        states = self.initial(len(offsets) - 1)
        first, count = self._cut(states, offsets, times)
        told = [self.recent_rnn(items, None, offsets)[0]]
        for values, carried in (
            (self.embedding[items], states.embedding_sum),
            (self.item_logits[items], states.logit_sum),
        ):
            told.append(_means(_running(values, carried, offsets, first), count))
        logits = told.pop()
        if self.n_themes:
            weights, themes = self.route(logits)
            dispatch = sf.dispatch_by_expert(offsets, themes, self.n_themes)
            of_theme = self.theme_rnn(items[dispatch.index], None, dispatch.offsets)[0]
            told.append((weights[:, :, None] * of_theme[dispatch.position]).sum(1))
        return self._fused(told)

    def _fused(self, told: list[Floats]) -> Floats:
        return linear(np.concatenate(told, axis=1), *self._fusion)

    def _cut(
        self, states: ThemeStates, offsets: Ints, times: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.bool_], Ints]:
        """Return which events start a session, and the place of each in its session, from 1."""
        lengths = np.diff(offsets)
        user = np.repeat(np.arange(len(lengths)), lengths)
        index = np.arange(len(user)) - offsets[user]
        begins = index == 0
        if times is None:
            # a state after a full session counts `session_window`, and the next one begins
            place = (states.count[user] + index) % self.config["session_window"]
            return place == 0, place + 1
        before = _times_before(states, offsets, times)
        first = (times - before > self.config["session_gap"]) | (begins & (states.count[user] == 0))
        start = np.maximum.accumulate(np.where(first | begins, np.arange(len(user)), 0))
        carried = np.where(first[start], 0, states.count[user])
        return first, np.arange(len(user)) - start + carried + 1

    def _advance_themes(
        self, states: ThemeStates, items: Ints, offsets: Ints, themes: Ints
    ) -> None:
        """Run the experts of the themes that have events, and of no others."""
        dispatch = sf.dispatch_by_expert(offsets, themes, self.n_themes)
        touched = np.flatnonzero(np.diff(dispatch.offsets))
        bounds = np.append(dispatch.offsets[touched], dispatch.offsets[-1])
        theme, user = np.divmod(touched, len(offsets) - 1)
        begin = np.ascontiguousarray(states.themes[user, theme])[None]
        end = self.theme_rnn(items[dispatch.index], begin, bounds, outputs="last")[1]
        states.themes[user, theme] = end[0]


def check_times(
    function: str,
    states: ThemeStates,
    offsets: Ints,
    times: NDArray[np.float64] | None,
    keys: Sequence[object] | None = None,
) -> None:
    """Raise ValueError if times of events decrease, or only some events of a user have one.

    ``states`` are those before the events, which are offsets[b] to offsets[b + 1] of user b; in
    messages a user has its key, else is a history.
    """
    filled = np.diff(offsets) > 0
    mixed = filled & (states.count > 0) & (np.isnan(states.time) == (times is not None))
    if (users := np.flatnonzero(mixed)).size:
        now, earlier = ("missing", "have some") if times is None else ("given", "have none")
        raise ValueError(
            f"{function}: times are {now}, but earlier events of {_who(users[0], keys)} {earlier}; "
            "expected times for all events of a user or for none"
        )
    if times is None:
        return
    before = _times_before(states, offsets, times)
    if (falls := np.flatnonzero(times < before)).size:
        event = falls[0]
        user = int(np.searchsorted(offsets, event, side="right")) - 1
        raise ValueError(
            f"{function}: times decrease from {before[event]:.17g} to {times[event]:.17g} in the "
            f"events of {_who(user, keys)}"
        )


def _who(user: int, keys: Sequence[object] | None) -> str:
    return f"history {user}" if keys is None else f"user {keys[user]!r}"


def _times_before(
    states: ThemeStates, offsets: Ints, times: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the time of the event before each one, NaN before the first of a user."""
    before = np.concatenate([[np.nan], times[:-1]])
    filled = np.flatnonzero(np.diff(offsets))
    before[offsets[filled]] = states.time[filled]
    return before


def _means(sums: Floats, count: Ints) -> Floats:
    """Return sums divided by counts; those of nothing stay 0."""
    return np.asarray(sums / np.maximum(count, 1)[:, None].astype(np.float32), np.float32)


def _running(values: Floats, carried: Floats, offsets: Ints, first: NDArray[np.bool_]) -> Floats:
    """Return sums over the events of a session up to each event, added in order.

    ``carried`` is what a sequence brings along, for those events that go on with its session.
    """
    total = values.copy()
    filled = np.flatnonzero(np.diff(offsets))
    begin = offsets[filled]
    goes_on = ~first[begin]
    total[begin[goes_on]] += carried[filled[goes_on]]
    starts = first.copy()
    starts[begin] = True
    at = np.flatnonzero(starts)
    lengths = np.diff(np.append(at, len(values)))
    for place in range(1, int(lengths.max())):
        events = at[lengths > place] + place
        # in this order: the sum so far, then the event
        total[events] = total[events - 1] + total[events]
    return total
