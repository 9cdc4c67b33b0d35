"""The process behind simulated sessions, and the exact filter over its hidden state.

A visitor has a profile: a few themes. A theme goes on from one event to the next with some
probability; otherwise the next theme is drawn anew from the profile, so that a theme that went
comes back sooner than any other theme comes. Which themes are in demand depends on the hour of
the day. A theme is a circle of categories: after an item of one comes, as a rule, an item of the
next. Categories belong to several themes, which go on from them differently, so that the item
before says less than the session does. Within a category items are drawn by rank (Zipf).

The hidden state is (profile, place in the profile), and the categories tell all about it that
the items tell: small enough for exact inference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from seqrec_fast.data.log import InteractionLog
from seqrec_fast.data.sessions import Sessions
from seqrec_fast.data.vocabulary import Ids

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_BLOCK = 1 << 22
_CATEGORIES_PER_THEME = 5
_HOUR_STRENGTH = 2.0


@dataclass(frozen=True)
class ThemeModel:
    """The parameters of the process.

    Attributes
    ----------
    profiles : (n_profiles, themes_per_profile) int64 array
        The themes of each profile.
    demand : (24, n_themes) float64 array
        Weight of each theme at each hour of the day.
    first : (n_themes, n_categories) float64 array
        Probability of each category, where the item before is not known.
    following : (n_themes, n_categories, n_categories) float64 array
        Probability of each category after an item of each category.
    persistence : float
        Probability that the theme goes on.
    category : (n_items,) int64 array
        The category of each item.
    popularity : (n_items,) float64 array
        Probability of each item within its category.
    """

    profiles: Ints
    demand: Floats
    first: Floats
    following: Floats
    persistence: float
    category: Ints
    popularity: Floats

    @property
    def n_items(self) -> int:
        """The number of items."""
        return len(self.category)

    def profile_probability(self, hours: Ints) -> Floats:
        """Return the (n, n_profiles) probability of each profile for sessions of these hours."""
        weight = self.demand[:, self.profiles].sum(axis=2)
        return np.asarray((weight / weight.sum(axis=1, keepdims=True))[hours])

    def theme_probability(self) -> Floats:
        """Return (24, n_profiles, themes_per_profile): a theme that is drawn anew."""
        weight = self.demand[:, self.profiles]
        return np.asarray(weight / weight.sum(axis=2, keepdims=True))

    def predictions(self, sessions: Sessions) -> Iterator[tuple[Floats, Ints]]:
        """Yield the exact distribution of the next item, and the item that came.

        One prediction for each event after the first of its session, given the items and the
        times of all events before it, but not its own time.

        Parameters
        ----------
        sessions : Sessions
            Item indices of this model, with times.

        Yields
        ------
        probability : (n, n_items) float64 array
        targets : (n,) int64 array
        """
        if sessions.times is None:
            raise ValueError("Simulation: sessions have no times, which the prediction needs")
        hours = hours_of(sessions.times)
        longest_first = np.argsort(-sessions.lengths, kind="stable")
        step = max(1, _BLOCK // (self.n_items + self.profiles.size + self.first.size))
        for begin in range(0, len(sessions), step):
            chosen = longest_first[begin : begin + step]
            yield from self._filter(
                sessions.items, hours, sessions.offsets[chosen], sessions.lengths[chosen]
            )

    def _filter(
        self, items: Ints, hours: Ints, starts: Ints, lengths: Ints
    ) -> Iterator[tuple[Floats, Ints]]:
        """Run the forward filter over sessions that are sorted by falling length."""
        drawn = self.theme_probability()
        active = int(np.count_nonzero(lengths >= 2))
        hour, category = hours[starts[:active]], self.category[items[starts[:active]]]
        state = self.profile_probability(hour)[:, :, None] * drawn[hour]
        state = self._given(state, self.first.T[category])
        for position in range(1, int(lengths[0]) if active else 1):
            active = int(np.count_nonzero(lengths > position))
            event = starts[:active] + position
            state, previous = state[:active], category[:active]
            again = state.sum(axis=2, keepdims=True) * drawn[hours[event - 1]]
            state = self.persistence * state + (1 - self.persistence) * again
            of_category = np.einsum(
                "nk,nkc->nc", self._themes(state), self.following[:, previous].swapaxes(0, 1)
            )
            yield of_category[:, self.category] * self.popularity, items[event]
            category = self.category[items[event]]
            state = self._given(state, self.following[:, previous, category].T)

    def _given(self, state: Floats, likelihood: Floats) -> Floats:
        """Return the state after an event of this (n, n_themes) likelihood, normalised."""
        state = state * likelihood[:, self.profiles]
        total = state.sum(axis=(1, 2), keepdims=True)
        if not total.all():
            raise ValueError("Simulation: the sessions hold a sequence that it cannot produce")
        return np.asarray(state / total)

    def _themes(self, state: Floats) -> Floats:
        """Return the (n, n_themes) probability of each theme, whatever the profile."""
        member = self.profiles.ravel()[:, None] == np.arange(len(self.first))
        return np.asarray(state.reshape(len(state), -1) @ member.astype(np.float64))


def make_model(
    rng: np.random.Generator,
    n_items: int,
    n_themes: int,
    n_categories: int,
    profiles: tuple[int, int],
    persistence: float,
    order: float,
    zipf_exponent: float,
) -> ThemeModel:
    """Draw the parameters of a process; ``profiles`` is their number and size."""
    n_profiles, themes_per_profile = profiles
    of_profile = np.argsort(rng.random((n_profiles, n_themes)), axis=1)[:, :themes_per_profile]
    peak = rng.uniform(0, 24, n_themes)
    nearness = np.cos(2 * np.pi * (np.arange(24)[:, None] - peak) / 24)
    demand = rng.uniform(0.5, 1.5, n_themes) * np.exp(_HOUR_STRENGTH * nearness)

    size = min(_CATEGORIES_PER_THEME, n_categories)
    circle = np.argsort(rng.random((n_themes, n_categories)), axis=1)[:, :size]
    themes = np.arange(n_themes)[:, None]
    first = np.zeros((n_themes, n_categories))
    first[themes, circle] = 1 / size
    following = np.repeat(first[:, None], n_categories, axis=1)
    following[themes, circle] *= 1 - order
    following[themes, circle, np.roll(circle, -1, axis=1)] += order

    category = rng.permutation(n_items) % n_categories
    rank = np.empty(n_items)
    for one in range(n_categories):
        members = np.flatnonzero(category == one)
        rank[members] = rng.permutation(len(members)) + 1
    popularity = rank**-zipf_exponent
    popularity /= np.bincount(category, popularity)[category]
    return ThemeModel(of_profile, demand, first, following, persistence, category, popularity)


def hours_of(times: Floats) -> Ints:
    """Return the hour of the day (UTC), 0 to 23, of times in seconds since 1970."""
    return (np.floor(times / 3600).astype(np.int64)) % 24


def log_of(sessions: Sessions) -> InteractionLog:
    """Return sessions as a log, one after another; item ids are the indices."""
    ids = np.repeat(sessions.session_ids, sessions.lengths)
    return InteractionLog(cast("Ids", ids), sessions.items, sessions.times)
