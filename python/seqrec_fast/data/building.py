"""How an interaction log becomes sessions of item indices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from seqrec_fast.data.log import InteractionLog
from seqrec_fast.data.sessions import Sessions, offsets_of
from seqrec_fast.data.vocabulary import Ids, ItemVocabulary, factorize


@dataclass(frozen=True)
class FilterReport:
    """What :func:`build_sessions` read, dropped and kept; ``str()`` says it in words.

    Attributes
    ----------
    events_read, sessions_read, items_read : int
        The log as it came.
    unknown_events, unknown_items : int
        Events of items that are not in the given vocabulary, and the number of these items.
    unknown_examples : tuple
        Up to five of these items.
    rare_events, short_session_events : int
        Events dropped because of ``min_item_support`` and of ``min_session_length``.
    events, sessions, items : int
        What is left; ``items`` counts those that occur.
    tied_events : int
        Events of the result with the same time as the one before in their session: their
        order is that of the file.
    """

    events_read: int
    sessions_read: int
    items_read: int
    unknown_events: int = 0
    unknown_items: int = 0
    unknown_examples: tuple[Any, ...] = ()
    rare_events: int = 0
    short_session_events: int = 0
    events: int = 0
    sessions: int = 0
    items: int = 0
    tied_events: int = 0

    def __str__(self) -> str:
        """Return one line with what was kept and why the rest was dropped."""
        text = (
            f"{self.events:,} of {self.events_read:,} events, {self.sessions:,} of "
            f"{self.sessions_read:,} sessions, {self.items:,} of {self.items_read:,} items"
        )
        dropped = []
        if self.unknown_events:
            examples = ", ".join(map(str, self.unknown_examples))
            dropped.append(
                f"{self.unknown_events:,} events of {self.unknown_items:,} unknown items "
                f"(such as {examples})"
            )
        if self.rare_events:
            dropped.append(f"{self.rare_events:,} events of rare items")
        if self.short_session_events:
            dropped.append(f"{self.short_session_events:,} events of short sessions")
        return text + ("; dropped " + ", ".join(dropped) if dropped else "")


def build_sessions(
    log: InteractionLog,
    *,
    min_item_support: int = 1,
    min_session_length: int = 2,
    vocabulary: ItemVocabulary | None = None,
) -> tuple[Sessions, ItemVocabulary, FilterReport]:
    """Group the events of a log into sessions of item indices.

    Sessions stand in the order in which they first appear in the log; inside a session events
    are sorted by time, and equal times keep the order of the log. Items that occur too rarely
    and sessions that are too short are dropped in turn until neither is left.

    Parameters
    ----------
    log : InteractionLog
    min_item_support : int
        Least number of events of an item.
    min_session_length : int
        Least number of events of a session.
    vocabulary : ItemVocabulary, optional
        The items to know, such as those of a trained model: events of other items are dropped
        and counted in the report. By default the vocabulary is the sorted ids of the items
        that are left.

    Returns
    -------
    sessions : Sessions
    vocabulary : ItemVocabulary
    report : FilterReport

    Raises
    ------
    ValueError
        If a threshold is below 1, if ``min_item_support`` is given together with a
        vocabulary, or if without a vocabulary no session is left.
    """
    _check_thresholds(min_item_support, min_session_length)
    if vocabulary is not None and min_item_support > 1:
        raise ValueError("build_sessions: min_item_support and vocabulary exclude each other")
    item_ids, items = factorize(log.item_ids)
    session_ids, sessions = by_appearance(log.session_ids)
    report = FilterReport(len(log), len(session_ids), len(item_ids))
    kept = time_order(sessions, log.times)
    if vocabulary is not None:
        index = vocabulary.index_of(item_ids)
        known = index[items[kept]] >= 0
        report = replace(
            report,
            unknown_events=int(np.count_nonzero(~known)),
            unknown_items=int(np.count_nonzero(index < 0)),
            unknown_examples=tuple(item_ids[index < 0][:5].tolist()),
        )
        kept = kept[known]
    kept, rare, short = _filter(kept, items, sessions, min_item_support, min_session_length)
    if vocabulary is None:
        if len(kept) == 0:
            raise ValueError(
                f"build_sessions: no session is left of {len(session_ids)} with "
                f"min_item_support={min_item_support}, min_session_length={min_session_length}"
            )
        present = np.bincount(items[kept], minlength=len(item_ids)) > 0
        index = np.where(present, np.cumsum(present) - 1, -1)
        vocabulary = ItemVocabulary(item_ids[present])
    lengths = np.bincount(sessions[kept], minlength=len(session_ids))
    times = None if log.times is None else log.times[kept]
    result = Sessions(
        index[items[kept]], offsets_of(lengths[lengths > 0]), times, session_ids[lengths > 0]
    )
    report = replace(
        report,
        rare_events=rare,
        short_session_events=short,
        events=result.n_events,
        sessions=len(result),
        items=len(np.unique(result.items)),
        tied_events=_count_ties(result),
    )
    return result, vocabulary, report


def _check_thresholds(min_item_support: int, min_session_length: int) -> None:
    for name, least in (("item_support", min_item_support), ("session_length", min_session_length)):
        if least < 1:
            raise ValueError(f"build_sessions: min_{name} is {least}; expected at least 1")


def by_appearance(ids: Ids) -> tuple[Ids, NDArray[np.int64]]:
    """Return the distinct ids in order of first appearance, and each id's position there."""
    unique, inverse = factorize(ids)
    first = np.full(len(unique), len(ids), dtype=np.int64)
    np.minimum.at(first, inverse, np.arange(len(ids)))
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return unique[order], rank[inverse]


def time_order(sessions: NDArray[np.int64], times: NDArray[np.float64] | None) -> NDArray[Any]:
    """Return the events session by session, by time inside a session, stably."""
    if times is None:
        return np.argsort(sessions, kind="stable")
    step = np.diff(sessions)
    if not ((step < 0) | ((step == 0) & (np.diff(times) < 0))).any():
        return np.arange(len(sessions))
    return np.lexsort((times, sessions))


def _filter(
    kept: NDArray[Any],
    items: NDArray[np.int64],
    sessions: NDArray[np.int64],
    min_item_support: int,
    min_session_length: int,
) -> tuple[NDArray[Any], int, int]:
    """Drop rare items and short sessions until none is left; count the events of each."""
    rare = short = 0
    while True:
        before = len(kept)
        for column, least in ((items, min_item_support), (sessions, min_session_length)):
            if least > 1 and len(kept):
                enough = np.bincount(column[kept])[column[kept]] >= least
                dropped = int(np.count_nonzero(~enough))
                if column is items:
                    rare += dropped
                else:
                    short += dropped
                kept = kept[enough]
        if len(kept) == before:
            return kept, rare, short


def _count_ties(sessions: Sessions) -> int:
    if sessions.times is None:
        return 0
    same = sessions.times[1:] == sessions.times[:-1]
    first = np.zeros(sessions.n_events, dtype=bool)
    first[sessions.offsets[:-1][sessions.lengths > 0]] = True
    return int(np.count_nonzero(same & ~first[1:]))
