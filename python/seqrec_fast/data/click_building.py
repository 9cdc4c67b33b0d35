"""How click-through samples are made: from impressions, or from interactions alone."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast._checks import check_items
from seqrec_fast.data.building import FilterReport, by_appearance, time_order
from seqrec_fast.data.clicks import ClickSamples
from seqrec_fast.data.log import InteractionLog
from seqrec_fast.data.sessions import Sessions, offsets_of
from seqrec_fast.data.vocabulary import Ids, ItemVocabulary, factorize

Ints = NDArray[np.int64]

# Rounds in which negatives that the user knows are drawn again, before what is left is drawn
# from the list of what the user does not know.
_ROUNDS = 20


def click_samples(
    log: InteractionLog,
    *,
    history: InteractionLog | None = None,
    min_item_support: int = 1,
    vocabulary: ItemVocabulary | None = None,
) -> tuple[ClickSamples, ItemVocabulary, FilterReport]:
    """Make one sample of each row of a log of impressions.

    The history of a sample is what its user clicked at an earlier time: a click at the very time
    of the sample, such as one on the same page, is not known yet. Without times it is what the
    user clicked in the rows before.

    Parameters
    ----------
    log : InteractionLog
        With labels; ``session_ids`` are the users.
    history : InteractionLog, optional
        What was clicked besides, such as the log that a model was trained on: its rows are in the
        histories and are no samples. Rows with label 0 have no part. If one of the logs has no
        times, all of it comes before `log`.
    min_item_support : int
        Least number of rows of an item; rows of rarer items are dropped.
    vocabulary : ItemVocabulary, optional
        The items to know, such as those of a trained model: rows of other items are dropped and
        counted in the report. By default the sorted ids of the items that are left.

    Returns
    -------
    samples : ClickSamples
        User by user, in time order.
    vocabulary : ItemVocabulary
    report : FilterReport
        Of rows, users ("sessions") and items, those of `history` included.

    Raises
    ------
    ValueError
        If the log has no labels, min_item_support is below 1 or given together with a vocabulary,
        or no sample is left.
    """
    if log.labels is None:
        raise ValueError("click_samples: log has no labels; expected a column of 0 and 1")
    if min_item_support < 1:
        raise ValueError(
            f"click_samples: min_item_support is {min_item_support}; expected at least 1"
        )
    if vocabulary is not None and min_item_support > 1:
        raise ValueError("click_samples: min_item_support and vocabulary exclude each other")
    rows, is_sample = _joined(log, history)
    item_ids, items = factorize(rows.item_ids)
    user_ids, users = by_appearance(rows.session_ids)
    report = FilterReport(len(rows), len(user_ids), len(item_ids))
    order = time_order(users, rows.times)
    if vocabulary is None:
        common = np.bincount(items) >= min_item_support
        vocabulary = ItemVocabulary(item_ids[common])
        rare = int(np.count_nonzero(~common[items]))
        report = replace(report, rare_events=rare)
        index = np.where(common, np.cumsum(common) - 1, -1)
    else:
        index = vocabulary.index_of(item_ids)
        report = replace(
            report,
            unknown_events=int(np.count_nonzero(index[items] < 0)),
            unknown_items=int(np.count_nonzero(index < 0)),
            unknown_examples=tuple(item_ids[index < 0][:5].tolist()),
        )
    order = order[index[items[order]] >= 0]
    if not is_sample[order].any():
        raise ValueError(f"click_samples: no sample is left: {report}")
    samples = _samples(rows, order, users, index[items], is_sample, user_ids)
    report = replace(
        report,
        events=len(order),
        sessions=len(np.unique(users[order])),
        items=len(np.unique(items[order])),
    )
    return samples, vocabulary, report


def sampled_clicks(
    sessions: Sessions,
    n_items: int,
    *,
    targets: str = "all",
    n_negatives: int = 1,
    popularity: ArrayLike | None = None,
    seed: int = 0,
) -> ClickSamples:
    """Make samples of interactions that have no negatives: these are drawn.

    A positive sample is an event after the first of its session, with the events before it as its
    history. After each come its negatives, with the same history and time and an item that does
    not occur in the session.

    Parameters
    ----------
    sessions : Sessions
        The interactions of each user. With the parts of :func:`split_leave_one_out`, take
        ``targets="all"`` for training and ``targets="last"`` for validation and test.
    n_items : int
        Size of the catalogue.
    targets : {"all", "last"}
        Make every event after the first a positive sample, or the last one only.
    n_negatives : int
        Of each positive, drawn independently, so that one may occur twice.
    popularity : (n_items,) array, optional
        Negatives are drawn in proportion to it. By default all items are equally likely.
    seed : int
        Equal seeds give equal samples.

    Returns
    -------
    ClickSamples

    Raises
    ------
    ValueError
        If an argument is out of range, no session has two events, or a user knows all items that
        can be drawn.

    Examples
    --------
    >>> samples = sampled_clicks(Sessions.from_lists([[0, 1, 2]]), n_items=4)
    >>> samples.targets.tolist(), samples.labels.tolist(), samples.seen.tolist()
    ([1, 3, 2, 3], [1, 0, 1, 0], [1, 1, 2, 2])
    """
    if targets not in ("all", "last"):
        raise ValueError(f"sampled_clicks: targets is {targets!r}; expected 'all' or 'last'")
    if n_negatives < 1:
        raise ValueError(f"sampled_clicks: n_negatives is {n_negatives}; expected at least 1")
    items = sessions.items
    check_items("sampled_clicks", items, n_items)
    owner = np.repeat(np.arange(len(sessions)), sessions.lengths)
    place = np.arange(sessions.n_events) - sessions.offsets[:-1][owner]
    is_target = place >= 1
    if targets == "last":
        is_target &= place == sessions.lengths[owner] - 1
    events = np.flatnonzero(is_target)
    if len(events) == 0:
        raise ValueError(f"sampled_clicks: none of {len(sessions)} sessions has two events")
    repeated = np.repeat(events, 1 + n_negatives)
    labels = np.zeros((len(events), 1 + n_negatives), np.int8)
    labels[:, 0] = 1
    chosen = items[repeated].reshape(labels.shape)
    negatives = _Negatives(sessions, owner, n_items, popularity)
    drawn = negatives.draw(np.repeat(owner[events], n_negatives), np.random.default_rng(seed))
    chosen[:, 1:] = drawn.reshape(-1, n_negatives)
    times = None if sessions.times is None else sessions.times[repeated]
    return ClickSamples(
        sessions, owner[repeated], place[repeated], chosen.ravel(), labels.ravel(), times
    )


def _joined(
    log: InteractionLog, history: InteractionLog | None
) -> tuple[InteractionLog, NDArray[np.bool_]]:
    """Return the rows of both logs, those of the history first, and which are samples."""
    if history is None:
        return log, np.ones(len(log), np.bool_)
    clicked = np.ones(len(history), np.bool_) if history.labels is None else history.labels > 0
    before = int(np.count_nonzero(clicked))
    times = None
    if log.times is not None:
        earliest = np.full(before, np.nextafter(np.min(log.times, initial=np.inf), -np.inf))
        times = earliest if history.times is None else history.times[clicked]
        times = np.concatenate([times, log.times])
    labels = cast("NDArray[np.int8]", log.labels)
    rows = InteractionLog(
        _concatenated(history.session_ids[clicked], log.session_ids),
        _concatenated(history.item_ids[clicked], log.item_ids),
        times,
        np.concatenate([np.ones(before, np.int8), labels]),
    )
    return rows, np.arange(len(rows)) >= before


def _concatenated(first: Ids, second: Ids) -> Ids:
    if first.dtype.kind != second.dtype.kind:
        first, second = first.astype(np.str_), second.astype(np.str_)
    return cast("Ids", np.concatenate([first, second]))


def _samples(
    rows: InteractionLog,
    order: Ints,
    users: Ints,
    items: Ints,
    is_sample: NDArray[np.bool_],
    user_ids: Ids,
) -> ClickSamples:
    """Turn rows, in `order`, into samples; users without rows have empty histories."""
    assert rows.labels is not None
    clicked, owner = rows.labels[order] > 0, users[order]
    clicks = offsets_of(np.bincount(owner[clicked], minlength=len(user_ids)))
    # the first row of the moment that a row belongs to: clicks from there on are not known yet
    moment = np.arange(len(order))
    if rows.times is not None:
        times = rows.times[order]
        same = (times[1:] == times[:-1]) & (owner[1:] == owner[:-1])
        moment[1:][same] = 0
        moment = np.maximum.accumulate(moment)
    before: Ints = (np.cumsum(clicked) - clicked)[moment]
    sampled = is_sample[order]
    clicked_rows, sampled_rows = order[clicked], order[sampled]
    histories = Sessions(
        items[clicked_rows],
        clicks,
        None if rows.times is None else rows.times[clicked_rows],
        user_ids,
    )
    return ClickSamples(
        histories,
        owner[sampled],
        (before - clicks[owner])[sampled],
        items[sampled_rows],
        rows.labels[sampled_rows],
        None if rows.times is None else rows.times[sampled_rows],
    )


class _Negatives:
    """Draws items that a user does not know."""

    def __init__(
        self, sessions: Sessions, owner: Ints, n_items: int, popularity: ArrayLike | None
    ) -> None:
        weight = np.ones(n_items) if popularity is None else np.asarray(popularity, np.float64)
        if weight.shape != (n_items,) or not (weight >= 0).all() or not np.isfinite(weight).all():
            raise ValueError(
                f"sampled_clicks: popularity has shape {weight.shape}; expected ({n_items},) "
                "finite numbers, none negative"
            )
        self._weight = weight
        self._cumulative = np.cumsum(weight)
        self._known = np.unique(owner * n_items + sessions.items)
        self._sessions = sessions

    def draw(self, users: Ints, rng: np.random.Generator) -> Ints:
        """Return an item for each entry of `users`."""
        items = np.zeros(len(users), np.int64)
        left = np.arange(len(users))
        for _ in range(_ROUNDS if self._cumulative[-1] > 0 else 0):
            items[left] = self._choose(self._cumulative, rng.random(len(left)))
            left = left[self._is_known(users[left], items[left])]
            if len(left) == 0:
                return items
        for position in left.tolist():
            user = int(users[position])
            weight = self._weight.copy()
            weight[self._sessions[user]] = 0
            if not weight.any():
                raise ValueError(
                    f"sampled_clicks: session {self._sessions.session_ids[user]} has all items "
                    "that can be drawn; there is no negative for it"
                )
            items[position] = self._choose(np.cumsum(weight), rng.random(1))[0]
        return items

    def _is_known(self, users: Ints, items: Ints) -> NDArray[np.bool_]:
        key = users * len(self._weight) + items
        at = np.minimum(np.searchsorted(self._known, key), len(self._known) - 1)
        return np.asarray(self._known[at] == key)

    @staticmethod
    def _choose(cumulative: NDArray[np.float64], draws: NDArray[np.float64]) -> Ints:
        found = np.searchsorted(cumulative, draws * cumulative[-1], "right")
        # rounding may take a draw to the very end, beyond the last item of some weight
        last = np.searchsorted(cumulative, cumulative[-1])
        return np.asarray(np.minimum(found, last), np.int64)
