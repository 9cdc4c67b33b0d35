"""Metrics of click-through prediction: AUC, AUC within groups, log-loss."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the probability that a positive has a higher score than a negative.

    The area under the ROC curve, as the Mann-Whitney statistic: a positive and a negative of
    the same score count one half.

    Parameters
    ----------
    labels : (n,) array of 0 and 1, or of bool
    scores : (n,) float array
        Any monotone function of the probability of a 1; infinities are ordered as usual.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        If a shape does not fit, a label is neither 0 nor 1, a score is NaN, or all labels are
        the same.

    Examples
    --------
    >>> auc([1, 0, 1, 0], [0.9, 0.6, 0.6, 0.1])
    0.875
    """
    positive, values = _checked("auc", labels, scores, "scores")
    areas, positives, negatives = _group_aucs(positive, values, np.zeros(len(values), np.int64), 1)
    if not (positives[0] and negatives[0]):
        raise ValueError(f"auc: all {len(values)} labels are {int(positive[0])}; expected both")
    return float(areas[0])


def gauc(labels: ArrayLike, scores: ArrayLike, groups: ArrayLike) -> float:
    """Return the mean of the groups' AUC, each weighted by its number of samples.

    A group is a user, or a request: how well are the targets of one user ordered? Groups whose
    labels are all the same have no AUC and are left out (Zhou et al., 2018, arXiv:1706.06978).

    Parameters
    ----------
    labels : (n,) array of 0 and 1, or of bool
    scores : (n,) float array
        See :func:`auc`.
    groups : (n,) array of int or str
        The group of each sample.

    Returns
    -------
    float
        Between 0 and 1.

    Raises
    ------
    ValueError
        As :func:`auc`; also if no group has both labels.

    Examples
    --------
    >>> gauc([1, 0, 1, 0, 0], [0.9, 0.6, 0.1, 0.2, 0.0], [7, 7, 8, 8, 9])
    0.5
    """
    positive, values = _checked("gauc", labels, scores, "scores")
    names = np.asarray(groups)
    if names.shape != values.shape:
        raise ValueError(f"gauc: groups has shape {names.shape}; expected {values.shape} as labels")
    unique, group = np.unique(names, return_inverse=True)
    areas, positives, negatives = _group_aucs(positive, values, group, len(unique))
    both = (positives > 0) & (negatives > 0)
    if not both.any():
        raise ValueError(f"gauc: none of {len(unique)} groups has labels 0 and 1")
    return float(np.average(areas[both], weights=(positives + negatives)[both]))


def log_loss(labels: ArrayLike, probabilities: ArrayLike) -> float:
    """Return the mean binary cross-entropy.

    Parameters
    ----------
    labels : (n,) array of 0 and 1, or of bool
    probabilities : (n,) float array
        Of a label of 1. Those of 0 and 1 count as 1e-15 and 1 - 1e-15, so that one wrong
        certainty does not make the mean infinite.

    Returns
    -------
    float

    Raises
    ------
    ValueError
        If a shape does not fit, a label is neither 0 nor 1, or a probability is out of range.

    Examples
    --------
    >>> round(log_loss([1, 0], [0.9, 0.2]), 4)
    0.1643
    """
    positive, values = _checked("log_loss", labels, probabilities, "probabilities")
    inside = (values >= 0) & (values <= 1)
    if not inside.all():
        raise ValueError(f"log_loss: a probability is {values[~inside][0]}; expected 0 to 1")
    # of the label that came; 1 - p is exact for p near 1, where it matters
    own = np.where(positive, values, 1.0 - values)
    return float(-np.mean(np.log(np.clip(own, 1e-15, 1.0 - 1e-15))))


def _checked(
    caller: str, labels: ArrayLike, values: ArrayLike, name: str
) -> tuple[NDArray[np.bool_], Floats]:
    wanted = np.asarray(labels)
    numbers = np.asarray(values, dtype=np.float64)
    if wanted.ndim != 1 or wanted.size == 0 or numbers.shape != wanted.shape:
        raise ValueError(
            f"{caller}: labels has shape {wanted.shape}, {name} {numbers.shape}; expected (n,) "
            "twice, with n > 0"
        )
    wrong: Any = ~np.isin(wanted, (0, 1))
    if wrong.any():
        raise ValueError(f"{caller}: labels holds {wanted[wrong][0]!r}; expected 0 or 1")
    if np.isnan(numbers).any():
        raise ValueError(f"{caller}: {name} holds NaN at position {np.isnan(numbers).argmax()}")
    return wanted.astype(np.bool_), numbers


def _group_aucs(
    positive: NDArray[np.bool_], scores: Floats, group: Ints, n_groups: int
) -> tuple[Floats, Ints, Ints]:
    """Return the AUC of each group (0 where it has none), its positives and its negatives."""
    order = np.lexsort((scores, group))
    ranked, owner = scores[order], group[order]
    changes = (ranked[1:] != ranked[:-1]) | (owner[1:] != owner[:-1])
    tie = np.concatenate([[0], np.cumsum(changes)])
    sizes = np.bincount(tie)
    # twice the mean of the ranks of equal scores, so that all sums are of integers and exact
    before = np.cumsum(sizes) - sizes
    doubled = (2 * before + sizes + 1)[tie]
    total = np.bincount(owner, minlength=n_groups)
    first = np.cumsum(total) - total
    hits = positive[order]
    positives = np.bincount(owner[hits], minlength=n_groups)
    negatives = total - positives
    within = doubled - 2 * first[owner]
    sums = np.zeros(n_groups, np.int64)
    np.add.at(sums, owner[hits], within[hits])
    pairs = np.maximum(positives * negatives, 1)
    return (sums - positives * (positives + 1)) / (2 * pairs), positives, negatives
