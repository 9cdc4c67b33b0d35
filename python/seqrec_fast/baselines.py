"""Recommenders without parameters to train, as a measure for those that have some.

Each is made from training sessions and scores all items for a batch of prefixes;
:func:`recommend` and :func:`evaluate` take any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from seqrec_fast import metrics
from seqrec_fast._checks import check_items
from seqrec_fast._evaluation_parts import sessions_to_predict

if TYPE_CHECKING:
    from seqrec_fast.data import Sessions

_BLOCK_SCORES = 1 << 22


class Baseline(Protocol):
    """What :func:`evaluate` and :func:`recommend` need to know of a recommender."""

    n_items: int

    def scores(self, prefixes: Sessions) -> NDArray[np.float32]:
        """Return a (n_prefixes, n_items) score for every item to come next."""
        ...


class Popularity:
    """Recommends the items with the most events, to everybody the same.

    Parameters
    ----------
    sessions : Sessions
        What to count.
    n_items : int
        Size of the catalogue.
    """

    def __init__(self, sessions: Sessions, n_items: int) -> None:
        check_items("Popularity", sessions.items, n_items)
        self.n_items = n_items
        self.counts = np.bincount(sessions.items, minlength=n_items)

    def scores(self, prefixes: Sessions) -> NDArray[np.float32]:
        """Return the number of events of each item, for each prefix: (n, n_items) float32."""
        return np.broadcast_to(self.counts.astype(np.float32), (len(prefixes), self.n_items))


class ItemKNN:
    """Recommends what followed the last items of the session in other sessions.

    A pair of items gets 1/d for each time that the second came d steps after the first, up to
    ``steps`` steps, divided by the number of events of the first. The score of an item is the
    sum of its pairs with the last ``context`` items of the session, the one d steps back with
    weight 1/d.

    Parameters
    ----------
    sessions : Sessions
        Where to count the pairs.
    n_items : int
        Size of the catalogue.
    steps : int
        How far apart two items of a pair may stand.
    context : int
        How many items of the session are asked for what follows them.
    """

    def __init__(self, sessions: Sessions, n_items: int, steps: int = 5, context: int = 5) -> None:
        check_items("ItemKNN", sessions.items, n_items)
        for name, value in (("steps", steps), ("context", context)):
            if value < 1:
                raise ValueError(f"ItemKNN: {name} is {value}; expected at least 1")
        self.n_items = n_items
        self.context = context
        keys, weights = [], []
        session = np.repeat(np.arange(len(sessions)), sessions.lengths)
        for step in range(1, steps + 1):
            near = session[step:] == session[:-step]
            key = sessions.items[:-step][near] * n_items + sessions.items[step:][near]
            keys.append(key)
            weights.append(np.full(len(key), 1.0 / step))
        pairs, inverse = np.unique(np.concatenate(keys), return_inverse=True)
        support = np.bincount(sessions.items, minlength=n_items)
        total = np.bincount(inverse, np.concatenate(weights), minlength=len(pairs))
        self._weights = total / support[pairs // n_items]
        self._next = pairs % n_items
        self._rows = np.searchsorted(pairs, np.arange(n_items + 1) * n_items)

    def scores(self, prefixes: Sessions) -> NDArray[np.float32]:
        """Return the summed weights of each item, for each prefix: (n, n_items) float32."""
        n = len(prefixes)
        table = np.zeros(n * self.n_items)
        for step in range(1, self.context + 1):
            row = np.flatnonzero(prefixes.lengths >= step)
            item = prefixes.items[prefixes.offsets[1:][row] - step]
            first, count = self._rows[item], self._rows[item + 1] - self._rows[item]
            ends = np.cumsum(count)
            pair = np.arange(ends[-1] if len(ends) else 0) + np.repeat(first - ends + count, count)
            # a row of the pair table names an item once: no two additions meet
            table[np.repeat(row * self.n_items, count) + self._next[pair]] += (
                self._weights[pair] / step
            )
        return table.reshape(n, self.n_items).astype(np.float32)


def recommend(
    model: Baseline, prefixes: Sessions, k: int = 20, *, exclude_seen: bool = False
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the ``k`` items with the greatest scores for each prefix.

    Parameters
    ----------
    model : Popularity, ItemKNN, ...
    prefixes : Sessions
        The sessions so far.
    k : int
        Length of the list; no more than all items are returned.
    exclude_seen : bool
        Leave out the items of the prefix.

    Returns
    -------
    items : (n, min(k, n_items)) int64 array
        Greatest score first, the smaller item first among equals; -1 where none is left.
    scores : (n, min(k, n_items)) float32 array
        -inf where none is left.
    """
    if k < 1:
        raise ValueError(f"recommend: k is {k}; expected at least 1")
    k = min(k, model.n_items)
    items = np.full((len(prefixes), k), -1, dtype=np.int64)
    scores = np.full((len(prefixes), k), -np.inf, dtype=np.float32)
    for rows, table in _score_blocks(model, prefixes, exclude_seen):
        best = np.argsort(-table, axis=1, kind="stable")[:, :k]
        value = np.take_along_axis(table, best, axis=1)
        items[rows, : best.shape[1]] = np.where(value > -np.inf, best, -1)
        scores[rows, : best.shape[1]] = value
    return items, scores


def evaluate(
    model: Baseline,
    test: Sessions,
    ks: Sequence[int] = (1, 5, 10, 20),
    *,
    targets: str = "all",
    exclude_seen: bool = False,
    mode: str = "conservative",
) -> dict[str, float]:
    """Rank the whole catalogue for each prediction and return recall, MRR and NDCG.

    Parameters
    ----------
    model : Popularity, ItemKNN, ...
    test : Sessions
        Sessions of the same vocabulary.
    ks : sequence of int
        Lengths of the list.
    targets : {"all", "last"}
        Predict every event of a session after the first from those before it, or the last
        one only.
    exclude_seen : bool
        Do not rank the items of the history; a target among them is a miss.
    mode : {"conservative", "standard", "median"}
        How ties count, see :func:`seqrec_fast.metrics.rank_from_counts`.

    Returns
    -------
    dict
        As :func:`seqrec_fast.metrics.summarize`, and ``"predictions"``, how many there were.

    Raises
    ------
    ValueError
        If ``targets`` is unknown, an item is out of range, or no session has two events.
    """
    test = sessions_to_predict(test, model.n_items, targets)
    ranks = []
    for prefixes, wanted in _predictions(test, targets):
        for rows, table in _score_blocks(model, prefixes, exclude_seen):
            rank = metrics.rank_of_targets(table, wanted[rows], mode)
            own = table[np.arange(len(table)), wanted[rows]]
            ranks.append(np.where(own > -np.inf, rank, np.inf))
    all_ranks = np.concatenate(ranks)
    return {**metrics.summarize(all_ranks, ks), "predictions": len(all_ranks)}


def _predictions(test: Sessions, targets: str) -> Iterator[tuple[Sessions, NDArray[np.int64]]]:
    """Yield prefixes and the item after each: all of one length together."""
    if targets == "last":
        yield test.split_last()
        return
    for length in range(1, int(test.lengths.max())):
        longer = test.select(test.lengths > length)
        wanted = longer.items[longer.offsets[:-1] + length]
        yield longer.trimmed(last=longer.lengths - length), wanted


def _score_blocks(
    model: Baseline, prefixes: Sessions, exclude_seen: bool
) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Yield the scores of some rows at a time, so that the table stays small."""
    step = max(1, _BLOCK_SCORES // max(1, model.n_items))
    for begin in range(0, len(prefixes), step):
        rows = slice(begin, min(begin + step, len(prefixes)))
        block = prefixes.select(np.arange(rows.start, rows.stop))
        table = model.scores(block)
        if exclude_seen:
            table = table.copy()
            table[np.repeat(np.arange(len(block)), block.lengths), block.items] = -np.inf
        yield rows, table
