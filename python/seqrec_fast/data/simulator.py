"""Simulated sessions whose best reachable accuracy is known."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from seqrec_fast._checks import check_items
from seqrec_fast.data._theme_model import (
    Floats,
    Ints,
    ThemeModel,
    hours_of,
    log_of,
    make_model,
)
from seqrec_fast.data.log import InteractionLog, write_log
from seqrec_fast.data.sessions import Sessions, offsets_of
from seqrec_fast.data.vocabulary import ItemVocabulary

_FIRST_DAY = 1_704_067_200.0  # 1 January 2024, midnight UTC
_DAY = 86_400.0
_DAYS = 28
_MEAN_PAUSE = 60.0


@dataclass(frozen=True)
class Simulation:
    """Sessions drawn from a known process, made by :func:`simulate`.

    Attributes
    ----------
    sessions : Sessions
        Ordered by start, with times in seconds. Item indices are the item ids, too.
    themes : (n_events,) int64 array
        The true theme of each event.
    model : ThemeModel
        The process.
    """

    sessions: Sessions
    themes: NDArray[np.int64]
    model: ThemeModel

    def reachable_recall(
        self, sessions: Sessions, k: int = 20, *, vocabulary: ItemVocabulary | None = None
    ) -> float:
        """Return the expected Recall@k of the best possible predictor.

        That predictor knows the process, and before each event after the first of a session
        the items and times of all events before it. It recommends the ``k`` items with the
        greatest probability; the sum of these is the probability of a hit. What is returned is
        its mean over all predictions, so no model can do better on the average over such
        sessions. The inference is exact.

        Parameters
        ----------
        sessions : Sessions
            Sessions of this simulation (all, or some of them), with times.
        k : int
            Length of the list.
        vocabulary : ItemVocabulary, optional
            Where the item indices are not those of the simulation: what they stand for.

        Returns
        -------
        float
            Between 0 and 1.

        Raises
        ------
        ValueError
            If there are no times, an item is not of this simulation, k is out of range, or no
            session has two events.
        """
        return self._reachable(sessions, k, vocabulary)[0]

    def reachable_hits(
        self, sessions: Sessions, k: int = 20, *, vocabulary: ItemVocabulary | None = None
    ) -> float:
        """Return the Recall@k that the best possible predictor has on these very events.

        Differs from :meth:`reachable_recall` by chance alone. Parameters and errors are the
        same; of equally probable items the smaller goes first.
        """
        return self._reachable(sessions, k, vocabulary)[1]

    def _reachable(
        self, sessions: Sessions, k: int, vocabulary: ItemVocabulary | None
    ) -> tuple[float, float]:
        if not 1 <= k <= self.model.n_items:
            raise ValueError(f"Simulation: k is {k}; expected 1 to {self.model.n_items}")
        items = sessions.items
        if vocabulary is not None:
            if vocabulary.ids.dtype.kind != "i":
                raise ValueError("Simulation: the vocabulary holds strings; expected integer ids")
            items = vocabulary.ids[items].astype(np.int64)
        check_items("Simulation", items, self.model.n_items)
        expected = hits = 0.0
        n = 0
        for probability, targets in self.model.predictions(
            Sessions(items, sessions.offsets, sessions.times)
        ):
            best = np.partition(probability, -k, axis=1)[:, -k:]
            own = probability[np.arange(len(targets)), targets]
            expected += float(best.sum())
            # one list for all: where two items are equally probable the smaller goes first
            ahead = probability > own[:, None]
            ahead |= (probability == own[:, None]) & (
                np.arange(self.model.n_items) < targets[:, None]
            )
            hits += float(np.count_nonzero(ahead.sum(axis=1) < k))
            n += len(targets)
        if n == 0:
            raise ValueError("Simulation: no session has two events, so nothing is predicted")
        return expected / n, hits / n

    def to_log(self) -> InteractionLog:
        """Return the events as a log, sessions one after another; item ids are the indices."""
        return log_of(self.sessions)

    def write_tsv(self, path: str | os.PathLike[str]) -> None:
        """Write the events as a tab-separated table, see :func:`write_log`."""
        write_log(self.to_log(), path)


def simulate(
    n_sessions: int = 20_000,
    n_items: int = 2_000,
    n_themes: int = 20,
    *,
    n_categories: int = 40,
    mean_length: float = 10.0,
    n_profiles: int = 20,
    themes_per_profile: int = 3,
    persistence: float = 0.9,
    order: float = 0.9,
    zipf_exponent: float = 1.2,
    seed: int = 0,
) -> Simulation:
    """Simulate sessions with latent themes that come and go and that depend on the hour.

    A visitor has one of several profiles, each with a few themes. From event to event the theme
    goes on, or is drawn anew from the profile, by how much each theme is in demand at that hour
    of the day. A theme is a circle of five categories; the next item comes from the category
    after that of the item before, or from any category of the theme. A category belongs to
    several themes, and holds items that are drawn by their rank (Zipf).

    Parameters
    ----------
    n_sessions, n_items, n_themes, n_categories : int
        Sizes; every item is in one category.
    mean_length : float
        Mean number of events of a session, more than 2: a session has two events and goes on
        after each with the same probability.
    n_profiles, themes_per_profile : int
        How many profiles there are, and of how many themes each.
    persistence : float
        Probability that the theme goes on.
    order : float
        Probability that the next item is from the next category of the theme.
    zipf_exponent : float
        The item of rank r in its category is drawn in proportion to r ** -zipf_exponent.
    seed : int
        Equal seeds give equal simulations.

    Returns
    -------
    Simulation

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> simulation = simulate(n_sessions=50, n_items=60, n_themes=4, n_categories=6, seed=7)
    >>> len(simulation.sessions)
    50
    >>> 0 < simulation.reachable_recall(simulation.sessions, k=10) < 1
    True
    """
    _check_arguments(
        {
            "n_sessions": (n_sessions, 1),
            "n_categories": (n_categories, 1),
            "n_items": (n_items, n_categories),
            "themes_per_profile": (themes_per_profile, 1),
            "n_themes": (n_themes, themes_per_profile),
            "mean_length": (mean_length, 2),
            "n_profiles": (n_profiles, 1),
            "zipf_exponent": (zipf_exponent, 0),
        },
        {"persistence": persistence, "order": order},
    )
    rng = np.random.default_rng(seed)
    model = make_model(
        rng,
        n_items,
        n_themes,
        n_categories,
        (n_profiles, themes_per_profile),
        persistence,
        order,
        zipf_exponent,
    )
    lengths = 1 + rng.geometric(1 / (mean_length - 1), n_sessions).astype(np.int64)
    offsets = offsets_of(lengths)
    times = _draw_times(rng, offsets)
    items, themes = _draw_events(rng, model, offsets, hours_of(times))
    return Simulation(Sessions(items, offsets, times), themes, model)


def _check_arguments(least: dict[str, tuple[float, float]], shares: dict[str, float]) -> None:
    for name, (value, minimum) in least.items():
        if not value >= minimum:
            raise ValueError(f"simulate: {name} is {value}; expected at least {minimum}")
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"simulate: {name} is {value}; expected between 0 and 1")


def _draw_times(rng: np.random.Generator, offsets: Ints) -> Floats:
    """Draw the start of each session, more of them in the evening, and pauses within it."""
    n_sessions, n_events = len(offsets) - 1, int(offsets[-1])
    hours = np.arange(24)
    busy = 1.0 + 0.8 * np.cos(2 * np.pi * (hours - 20) / 24)
    start = (
        rng.integers(0, _DAYS, n_sessions) * _DAY
        + rng.choice(24, n_sessions, p=busy / busy.sum()) * 3600.0
        + rng.uniform(0, 3600, n_sessions)
    )
    pause = rng.exponential(_MEAN_PAUSE, n_events)
    pause[offsets[:-1]] = 0.0
    since_first = np.cumsum(pause)
    since_start = since_first - np.repeat(since_first[offsets[:-1]], np.diff(offsets))
    # whole milliseconds, as logs have them, and as text brings them back
    return np.round(_FIRST_DAY + np.repeat(np.sort(start), np.diff(offsets)) + since_start, 3)


def _draw_events(
    rng: np.random.Generator, model: ThemeModel, offsets: Ints, hours: Ints
) -> tuple[Ints, Ints]:
    """Draw theme and item of all sessions, position by position."""
    lengths, starts = np.diff(offsets), offsets[:-1]
    categories = np.empty(int(offsets[-1]), dtype=np.int64)
    themes = np.empty_like(categories)
    drawn = model.theme_probability()
    profile = _choose(rng, model.profile_probability(hours[starts]))
    theme = model.profiles[profile, _choose(rng, drawn[hours[starts], profile])]
    themes[starts] = theme
    categories[starts] = _choose(rng, model.first[theme])
    for position in range(1, int(lengths.max())):
        active = np.flatnonzero(lengths > position)
        event = starts[active] + position
        # the hour before the pause: it is known when the next item is predicted
        place = _choose(rng, drawn[hours[event - 1], profile[active]])
        goes_on = rng.random(len(active)) < model.persistence
        theme = np.where(goes_on, themes[event - 1], model.profiles[profile[active], place])
        themes[event] = theme
        categories[event] = _choose(rng, model.following[theme, categories[event - 1]])
    return _draw_items(rng, model, categories), themes


def _draw_items(rng: np.random.Generator, model: ThemeModel, categories: Ints) -> Ints:
    items = np.empty_like(categories)
    for category in np.unique(categories):
        members = np.flatnonzero(model.category == category)
        events = np.flatnonzero(categories == category)
        items[events] = rng.choice(members, len(events), p=model.popularity[members])
    return items


def _choose(rng: np.random.Generator, probability: Floats) -> Ints:
    """Draw one column for each row of probabilities."""
    cumulative = np.cumsum(probability, axis=1)
    draw = rng.random((len(cumulative), 1)) * cumulative[:, -1:]
    return np.asarray((cumulative <= draw).sum(axis=1), dtype=np.int64)
