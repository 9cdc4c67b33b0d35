"""What the evaluations of all kinds of recommenders have in common."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from seqrec_fast._checks import check_items
from seqrec_fast.data.sessions import Sessions


def sessions_to_predict(test: Sessions, n_items: int, targets: str) -> Sessions:
    """Return the sessions of two events or more.

    Raises
    ------
    ValueError
        If there is none, an item is out of range, or ``targets`` is unknown.
    """
    if targets not in ("all", "last"):
        raise ValueError(f"evaluate: targets is {targets!r}; expected 'all' or 'last'")
    check_items("evaluate", test.items, n_items)
    test = test.select(test.lengths >= 2)
    if len(test) == 0:
        raise ValueError("evaluate: no session has two events")
    return test


def parts_of(sessions: Sessions, n_events: int) -> Iterator[Sessions]:
    """Yield sessions of about so many events, at least one, so that hidden states stay few."""
    part = (sessions.offsets[1:] - 1) // n_events
    bounds = np.flatnonzero(np.diff(part, prepend=-1, append=part[-1] + 1))
    for begin, end in pairwise(bounds):
        yield sessions.select(np.arange(begin, end))
