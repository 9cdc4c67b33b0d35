"""Accuracy of a recommender over the whole catalogue, without PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from seqrec_fast import metrics
from seqrec_fast._checks import check_items
from seqrec_fast._evaluation_parts import parts_of, sessions_to_predict
from seqrec_fast.data.clicks import ClickSamples
from seqrec_fast.data.sessions import Sessions
from seqrec_fast.recommender import Recommender

if TYPE_CHECKING:
    from seqrec_fast.click_predictor import ClickPredictor
    from seqrec_fast.theme_serving import ThemeRecommender

# Events that run through the network together, and predictions whose histories exist at one time.
_BLOCK_EVENTS = 1 << 14
_BLOCK_PREDICTIONS = 1 << 10


def evaluate(
    recommender: Recommender | ThemeRecommender,
    test: Sessions,
    ks: Sequence[int] = (1, 5, 10, 20),
    *,
    targets: str = "all",
    exclude_seen: bool = False,
    mode: str = "conservative",
    on_sessions: Callable[[int], object] | None = None,
) -> dict[str, float]:
    """Rank the whole catalogue for each prediction; return recall, MRR, NDCG and coverage.

    Parameters
    ----------
    recommender : Recommender or ThemeRecommender
    test : Sessions
        Sessions of the recommender's vocabulary.
    ks : sequence of int
        Lengths of the list.
    targets : {"all", "last"}
        Predict every event of a session after the first from those before it, or the last one
        only.
    exclude_seen : bool
        Do not rank the items of the history; a target among them is a miss.
    mode : {"conservative", "standard", "median"}
        How ties count, see :func:`seqrec_fast.metrics.rank_from_counts`.
    on_sessions : callable, optional
        Called with the number of sessions done since the last call.

    Returns
    -------
    dict
        ``{"recall@1": ..., "mrr@1": ..., "ndcg@1": ..., "recall@5": ..., "coverage@1": ...,
        "predictions": ...}``

    Raises
    ------
    ValueError
        If ``targets`` or ``mode`` is unknown, an item is out of range, or no session has two
        events.
    """
    if mode not in metrics.TIE_MODES:
        raise ValueError(
            f"evaluate: mode is {mode!r}; expected one of {', '.join(metrics.TIE_MODES)}"
        )
    n_items = recommender.n_items
    test = sessions_to_predict(test, n_items, targets)
    longest = min(max(ks), n_items)
    covered = np.zeros((longest, n_items), dtype=np.bool_)
    ranks = []
    for part in parts_of(test, _BLOCK_EVENTS):
        outputs = recommender.outputs(part.items, part.offsets, part.times)
        for events, histories in _predictions(part, targets):
            exclude = (histories.items, histories.offsets) if exclude_seen else None
            found = recommender.best_indices(outputs[events], longest, exclude)[1]
            place = np.broadcast_to(np.arange(longest), found.shape)
            covered[place[found >= 0], found[found >= 0]] = True
            wanted = part.items[events + 1]
            ranks.append(recommender.ranks(outputs[events], wanted, exclude, ties=mode))
        if on_sessions is not None:
            on_sessions(len(part))
    all_ranks = np.concatenate(ranks)
    result = metrics.summarize(all_ranks, ks)
    result |= {f"coverage@{k}": float(covered[:k].any(axis=0).mean()) for k in ks}
    return {**result, "predictions": len(all_ranks)}


def evaluate_click_through(
    predictor: ClickPredictor | ThemeRecommender,
    samples: ClickSamples,
    *,
    max_length: int | None = None,
    on_samples: Callable[[int], object] | None = None,
) -> dict[str, float]:
    """Return AUC, GAUC and log-loss of a predictor of clicks.

    Parameters
    ----------
    predictor : ClickPredictor or ThemeRecommender
        What :func:`seqrec_fast.load` returns for a click-through model.
    samples : ClickSamples
        Samples of the predictor's vocabulary.
    max_length : int, optional
        Longest history, as in training; of longer ones the newest events are kept.
    on_samples : callable, optional
        Called with the number of samples done since the last call.

    Returns
    -------
    dict
        As of :func:`click_through_metrics`.

    Raises
    ------
    ValueError
        If an item is out of range, or all labels are the same.
    """
    check_click_items("evaluate_click_through", samples, predictor.n_items)
    logits = []
    for batch in samples.batches(_BLOCK_PREDICTIONS, max_length, share=True):
        logits.append(
            predictor.logits(batch.items, batch.offsets, batch.targets, batch.history, batch.times)
        )
        if on_samples is not None:
            on_samples(len(batch.targets))
    return click_through_metrics(samples, np.concatenate(logits) if logits else [])


def click_through_metrics(samples: ClickSamples, logits: ArrayLike) -> dict[str, float]:
    """Return AUC, GAUC and log-loss of samples, given the (n,) logits of a click.

    Returns
    -------
    dict
        ``{"auc": ..., "gauc": ..., "log_loss": ...}``; GAUC is over users, see
        :func:`seqrec_fast.metrics.gauc`, and NaN where no user has both labels.

    Raises
    ------
    ValueError
        If a logit is NaN, or all labels are the same.
    """
    scores = np.asarray(logits, np.float64)
    auc = metrics.auc(samples.labels, scores)
    positives, total = (np.bincount(samples.users, weights) for weights in (samples.labels, None))
    has_both = ((positives > 0) & (positives < total)).any()
    gauc = metrics.gauc(samples.labels, scores, samples.users) if has_both else float("nan")
    small = np.exp(-np.abs(scores))
    probabilities = np.where(scores >= 0, 1, small) / (1 + small)
    log_loss = metrics.log_loss(samples.labels, probabilities)
    return {"auc": auc, "gauc": gauc, "log_loss": log_loss}


def check_click_items(caller: str, samples: ClickSamples, n_items: int) -> None:
    """Raise ValueError if an item of a history or a target is not in the catalogue."""
    check_items(caller, samples.histories.items, n_items, "items of histories")
    check_items(caller, samples.targets, n_items, "items of targets")


def _predictions(sessions: Sessions, targets: str) -> Iterator[tuple[NDArray[np.int64], Sessions]]:
    """Yield the events after which something is predicted, and the sessions up to there."""
    session = np.repeat(np.arange(len(sessions)), sessions.lengths)
    left = sessions.offsets[1:][session] - 1 - np.arange(sessions.n_events)
    events = np.flatnonzero(left == 1 if targets == "last" else left >= 1)
    for begin in range(0, len(events), _BLOCK_PREDICTIONS):
        chunk = events[begin : begin + _BLOCK_PREDICTIONS]
        yield chunk, sessions.select(session[chunk]).trimmed(last=left[chunk])
