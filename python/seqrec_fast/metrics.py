"""Ranking metrics of next-item prediction, from the rank of the target; AUC and log-loss of clicks.

A rank is 1 for the item that a model scores highest. Only the target is relevant, so recall
is the same as the hit rate, and the ideal DCG is 1. A target that the model cannot rank, such
as an item that it does not know, has rank infinity: a miss in every metric.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast._checks import check_items
from seqrec_fast._click_metrics import auc, gauc, log_loss

__all__ = [
    "TIE_MODES",
    "auc",
    "coverage",
    "gauc",
    "log_loss",
    "mrr_at",
    "ndcg_at",
    "rank_from_counts",
    "rank_of_targets",
    "recall_at",
    "summarize",
]

#: How items that score exactly as the target are counted, see :func:`rank_from_counts`.
TIE_MODES = ("standard", "conservative", "median")


def rank_from_counts(
    n_greater: ArrayLike, n_equal: ArrayLike, mode: str = "conservative"
) -> NDArray[np.float64]:
    """Return the rank of each target from the number of items above it and beside it.

    Parameters
    ----------
    n_greater : (n,) int array
        Items with a strictly greater score than the target.
    n_equal : (n,) int array
        Other items with exactly the target's score; the target itself is not counted.
    mode : {"conservative", "standard", "median"}
        ``"standard"`` puts the target before its equals (a model that scores all items the
        same is perfect), ``"conservative"`` puts it after them, ``"median"`` halfway.

    Returns
    -------
    (n,) float64 array
        From 1 on; halves occur with ``"median"``.

    Raises
    ------
    ValueError
        If the mode is unknown.

    Examples
    --------
    >>> [rank_from_counts([3], [2], mode).item() for mode in TIE_MODES]
    [4.0, 6.0, 5.0]
    """
    shares = {"standard": 0.0, "conservative": 1.0, "median": 0.5}
    if mode not in shares:
        raise ValueError(
            f"rank_from_counts: mode is {mode!r}; expected one of {', '.join(TIE_MODES)}"
        )
    above = np.asarray(n_greater, dtype=np.float64)
    return 1.0 + above + shares[mode] * np.asarray(n_equal, dtype=np.float64)


def rank_of_targets(
    scores: ArrayLike, targets: ArrayLike, mode: str = "conservative"
) -> NDArray[np.float64]:
    """Return the rank of one target in each row of scores.

    Parameters
    ----------
    scores : (n, n_items) float array
        A score for every item; -inf for an item that is filtered out.
    targets : (n,) int array
        The item to look for in each row; -1 for one that has no score, whose rank is infinity.
    mode : {"conservative", "standard", "median"}
        See :func:`rank_from_counts`.

    Returns
    -------
    (n,) float64 array

    Raises
    ------
    ValueError
        If a shape does not fit, a target is out of range, or a score is NaN.
    """
    table = np.asarray(scores)
    wanted = np.asarray(targets, dtype=np.int64)
    if table.ndim != 2 or wanted.shape != table.shape[:1]:
        raise ValueError(
            f"rank_of_targets: scores has shape {table.shape}, targets {wanted.shape}; expected "
            "(n, n_items) and (n,)"
        )
    if len(wanted) and not (wanted.min() >= -1 and wanted.max() < table.shape[1]):
        raise ValueError(
            f"rank_of_targets: targets from {wanted.min()} to {wanted.max()}; expected -1 to "
            f"{table.shape[1] - 1}"
        )
    if np.isnan(table).any():
        raise ValueError("rank_of_targets: scores holds NaN")
    known = wanted >= 0
    own = np.take_along_axis(table, np.maximum(wanted, 0)[:, None], axis=1)
    n_greater = np.count_nonzero(table > own, axis=1)
    n_equal = np.count_nonzero(table == own, axis=1) - 1
    return np.where(known, rank_from_counts(n_greater, n_equal, mode), np.inf)


def recall_at(ranks: ArrayLike, k: int) -> float:
    """Return the share of targets among the first ``k`` (also called hit rate).

    Examples
    --------
    >>> recall_at([1, 3, 30], 20)
    0.6666666666666666
    """
    return float(np.mean(_ranks(ranks, k, "recall_at") <= k))


def mrr_at(ranks: ArrayLike, k: int) -> float:
    """Return the mean of 1 / rank, where a rank beyond ``k`` counts 0.

    Examples
    --------
    >>> mrr_at([1, 4, 30], 20)
    0.4166666666666667
    """
    values = _ranks(ranks, k, "mrr_at")
    return float(np.mean(np.where(values <= k, 1.0 / values, 0.0)))


def ndcg_at(ranks: ArrayLike, k: int) -> float:
    """Return the mean of 1 / log2(1 + rank), where a rank beyond ``k`` counts 0.

    Examples
    --------
    >>> ndcg_at([1, 3, 30], 20)
    0.5
    """
    values = _ranks(ranks, k, "ndcg_at")
    return float(np.mean(np.where(values <= k, 1.0 / np.log2(1.0 + values), 0.0)))


def _ranks(ranks: ArrayLike, k: int, caller: str) -> NDArray[np.float64]:
    values = np.asarray(ranks, dtype=np.float64)
    if k < 1:
        raise ValueError(f"{caller}: k is {k}; expected at least 1")
    if values.ndim != 1 or values.size == 0:
        raise ValueError(f"{caller}: ranks has shape {values.shape}; expected (n,) with n > 0")
    if not (values >= 1).all():
        raise ValueError(f"{caller}: ranks holds {values[~(values >= 1)][0]}; expected 1 or more")
    return values


def summarize(ranks: ArrayLike, ks: Sequence[int] = (1, 5, 10, 20)) -> dict[str, float]:
    """Return recall, MRR and NDCG at several k.

    Parameters
    ----------
    ranks : (n,) array
        Ranks of the targets, from 1; infinity for a miss.
    ks : sequence of int
        Lengths of the list.

    Returns
    -------
    dict
        ``{"recall@1": ..., "mrr@1": ..., "ndcg@1": ..., "recall@5": ...}``

    Raises
    ------
    ValueError
        If there are no ranks, one is below 1 or NaN, or a k is below 1.
    """
    metrics = {"recall": recall_at, "mrr": mrr_at, "ndcg": ndcg_at}
    return {f"{name}@{k}": metric(ranks, k) for k in ks for name, metric in metrics.items()}


def coverage(recommended: ArrayLike, n_items: int) -> float:
    """Return the share of the catalogue that occurs in at least one list of recommendations.

    Parameters
    ----------
    recommended : (n, k) int array
        Recommended items; -1 where a list is shorter than k.
    n_items : int
        Size of the catalogue.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If the catalogue is empty or an item is not in it.

    Examples
    --------
    >>> coverage([[0, 2], [2, -1]], n_items=4)
    0.5
    """
    items = np.asarray(recommended, dtype=np.int64).ravel()
    items = items[items != -1]
    if n_items < 1:
        raise ValueError(f"coverage: n_items is {n_items}; expected at least 1")
    check_items("coverage", items, n_items)
    return np.unique(items).size / n_items
