"""Simulated histories in which interests hold inside a session and hop between sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from seqrec_fast.data._theme_model import Floats, Ints, log_of
from seqrec_fast.data.log import InteractionLog
from seqrec_fast.data.sessions import Sessions, offsets_of

_FIRST_DAY = 1_704_067_200.0  # 1 January 2024, midnight UTC
_MEAN_PAUSE = 60.0
_LONGEST_PAUSE = 900.0
_SHORTEST_BREAK = 4 * 3600.0
_MEAN_BREAK = 86_400.0


@dataclass(frozen=True)
class HoppingSimulation:
    """Histories drawn from a known process, made by :func:`simulate_hopping`.

    Attributes
    ----------
    sessions : Sessions
        One history per user, with times in seconds. Item indices are the item ids, too.
    themes : (n_events,) int64 array
        The true theme of the visit that each event belongs to.
    visits : (n_visits + 1,) int64 array
        Visit v of some user is the events ``visits[v]`` to ``visits[v + 1] - 1``; no visit goes
        over the border of two histories.
    paths : (n_users, n_themes) int64 array
        The path that each user follows in each theme.
    item_themes : (n_items,) int64 array
        The theme of each item.
    item_categories : (n_items,) int64 array
        The category of each item within its theme.
    following : (n_themes, n_paths, n_categories) int64 array
        The category that comes next on each path.
    """

    sessions: Sessions
    themes: Ints
    visits: Ints
    paths: Ints
    item_themes: Ints
    item_categories: Ints
    following: Ints

    def to_log(self) -> InteractionLog:
        """Return the events as a log, users one after another; item ids are the indices."""
        return log_of(self.sessions)


class _Visits(NamedTuple):
    """What each event of all histories is part of."""

    offsets: Ints  # of visits over events
    of_event: Ints
    themes: Ints  # of visits


def simulate_hopping(
    n_users: int = 500,
    n_items: int = 512,
    n_themes: int = 8,
    *,
    hopping: bool = True,
    length: tuple[int, int] = (200, 2000),
    mean_visit: float = 4.0,
    n_categories: int = 8,
    n_paths: int = 4,
    order: float = 0.9,
    noise: float = 0.05,
    zipf_exponent: float = 1.0,
    seed: int = 0,
) -> HoppingSimulation:
    """Simulate users whose visits each have one theme, and who return to themes after gaps.

    Every theme has categories of its own, and several paths through them: circular orders in
    which one category follows another. A user follows one path in each theme, the same in all
    visits, and goes on where the last visit to the theme ended. So what tells the next item is
    what the user did under the same theme, sessions ago; what came in between tells nothing.

    Parameters
    ----------
    n_users, n_items, n_themes : int
        Sizes. Items are shared out evenly among the categories of all themes.
    hopping : bool
        True: each visit has another theme than the one before, drawn by how much the user likes
        it. False: a user has one theme for good; all else is the same.
    length : (int, int)
        Shortest and longest history; the logarithm of the length is uniform between them.
    mean_visit : float
        Mean number of events of a visit, more than 1; geometric.
    n_categories, n_paths : int
        Of each theme.
    order : float
        Probability that an item comes from the next category of the path; otherwise from any
        category of the theme.
    noise : float
        Probability that an item comes from any theme. The position on the path stays then.
    zipf_exponent : float
        The item of rank r in its category is drawn in proportion to r ** -zipf_exponent.
    seed : int
        Equal seeds give equal simulations.

    Returns
    -------
    HoppingSimulation

    Raises
    ------
    ValueError
        If an argument is out of range.

    Examples
    --------
    >>> simulation = simulate_hopping(20, 64, 4, n_categories=4, length=(30, 60), seed=1)
    >>> simulation.sessions.lengths.min() >= 30
    True
    """
    _check(
        {
            "n_users": (n_users, 1),
            "n_themes": (n_themes, 2 if hopping else 1),
            "n_categories": (n_categories, 2),
            "n_items": (n_items, n_themes * n_categories),
            "n_paths": (n_paths, 1),
            "mean_visit": (mean_visit, 1),
            "zipf_exponent": (zipf_exponent, 0),
            "the shortest length": (length[0], 1),
            "the longest length": (length[1], length[0]),
        },
        {"order": order, "noise": noise},
    )
    rng = np.random.default_rng(seed)
    category = rng.permutation(n_items) % (n_themes * n_categories)
    popularity = _popularity(rng, category, zipf_exponent)
    following = _draw_paths(rng, n_themes, n_paths, n_categories)
    paths = rng.integers(0, n_paths, (n_users, n_themes))
    low, high = (float(np.log(bound)) for bound in length)
    drawn_lengths: Floats = rng.uniform(low, high, n_users)
    offsets = offsets_of(np.round(np.exp(drawn_lengths)).astype(np.int64))
    visits = _draw_visits(rng, offsets, mean_visit, n_themes, hopping)
    times = _draw_times(rng, offsets, visits)
    themes = visits.themes[visits.of_event]
    categories = _draw_categories(rng, offsets, themes, paths, following, order)
    items = np.empty(len(themes), np.int64)
    strays = rng.random(len(items)) < noise
    drawn = np.where(strays, rng.integers(0, n_themes * n_categories, len(items)), categories)
    for one in range(n_themes * n_categories):
        members, events = np.flatnonzero(category == one), np.flatnonzero(drawn == one)
        items[events] = rng.choice(members, len(events), p=popularity[members])
    return HoppingSimulation(
        Sessions(items, offsets, times),
        themes,
        visits.offsets,
        paths,
        category // n_categories,
        category % n_categories,
        following,
    )


def _check(least: dict[str, tuple[float, float]], shares: dict[str, float]) -> None:
    for name, (value, minimum) in least.items():
        if not value >= minimum:
            raise ValueError(f"simulate_hopping: {name} is {value}; expected at least {minimum}")
    for name, value in shares.items():
        if not 0 <= value <= 1:
            raise ValueError(f"simulate_hopping: {name} is {value}; expected between 0 and 1")


def _popularity(rng: np.random.Generator, category: Ints, exponent: float) -> Floats:
    """Return the probability of each item within its category."""
    weight = np.empty(len(category))
    for one in range(int(category.max()) + 1):
        members = np.flatnonzero(category == one)
        weight[members] = (rng.permutation(len(members)) + 1.0) ** -exponent
    return np.asarray(weight / np.bincount(category, weight)[category])


def _draw_paths(rng: np.random.Generator, n_themes: int, n_paths: int, n_categories: int) -> Ints:
    """Draw circular orders: (n_themes, n_paths, n_categories), the category after each."""
    circle = np.argsort(rng.random((n_themes, n_paths, n_categories)), axis=2)
    following = np.empty_like(circle)
    np.put_along_axis(following, circle, np.roll(circle, -1, axis=2), axis=2)
    return following


def _draw_visits(
    rng: np.random.Generator, offsets: Ints, mean_visit: float, n_themes: int, hopping: bool
) -> _Visits:
    """Cut histories into visits, and draw the theme of each."""
    n_users, n_events = len(offsets) - 1, int(offsets[-1])
    first = rng.random(n_events) < 1 / mean_visit
    first[offsets[:-1]] = True
    starts = np.flatnonzero(first)
    of_event = np.cumsum(first) - 1
    user = np.searchsorted(offsets, starts, side="right") - 1
    liking = rng.exponential(1.0, (n_users, n_themes)) + 0.2
    themes = np.empty(len(starts), np.int64)
    begin = np.searchsorted(starts, offsets[:-1])
    count = np.bincount(user, minlength=n_users)
    before = np.full(n_users, -1)
    for number in range(int(count.max())):
        active = np.flatnonzero(count > number)
        if hopping or number == 0:
            weight = liking[active].copy()
            if number:
                weight[np.arange(len(active)), before[active]] = 0.0
            reached = np.cumsum(weight, axis=1)
            draw = rng.random((len(active), 1)) * reached[:, -1:]
            before[active] = (reached <= draw).sum(axis=1)
        themes[begin[active] + number] = before[active]
    return _Visits(np.append(starts, n_events), of_event, themes)


def _draw_times(rng: np.random.Generator, offsets: Ints, visits: _Visits) -> Floats:
    """Draw short pauses within a visit and long breaks between visits."""
    step = np.minimum(rng.exponential(_MEAN_PAUSE, int(offsets[-1])), _LONGEST_PAUSE)
    starts = visits.offsets[:-1]
    step[starts] = _SHORTEST_BREAK + rng.exponential(_MEAN_BREAK, len(starts))
    elapsed = np.cumsum(step)
    lengths = np.diff(offsets)
    elapsed -= np.repeat(elapsed[offsets[:-1]], lengths)
    begin = rng.uniform(0, _MEAN_BREAK, len(lengths))
    return np.round(_FIRST_DAY + elapsed + np.repeat(begin, lengths), 3)


def _draw_categories(
    rng: np.random.Generator, offsets: Ints, themes: Ints, paths: Ints, following: Ints,
    order: float,
) -> Ints:  # fmt: skip
    """Walk along the paths; return categories counted over all themes."""
    n_users, n_themes = paths.shape
    n_categories = following.shape[2]
    place = rng.integers(0, n_categories, (n_users, n_themes))
    keeps = rng.random(len(themes)) < order
    anywhere = rng.integers(0, n_categories, len(themes))
    categories = np.empty(len(themes), np.int64)
    lengths = np.diff(offsets)
    for position in range(int(lengths.max())):
        user = np.flatnonzero(lengths > position)
        event = offsets[user] + position
        theme = themes[event]
        next_one = following[theme, paths[user, theme], place[user, theme]]
        place[user, theme] = np.where(keeps[event], next_one, anywhere[event])
        categories[event] = theme * n_categories + place[user, theme]
    return categories
