"""Evaluation of a model over the whole catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from seqrec_fast import metrics
from seqrec_fast._evaluation_parts import parts_of, sessions_to_predict
from seqrec_fast.data import Sessions
from seqrec_fast.data.sessions import gather
from seqrec_fast.models import NextItemModel

from .devices import moved

# Scores that exist at one time, and events that run through the network together.
_CHUNK_SCORES = 1 << 22
_CHUNK_EVENTS = 1 << 14


def evaluate(
    model: NextItemModel,
    test: Sessions,
    ks: Sequence[int] = (1, 5, 10, 20),
    *,
    targets: str = "all",
    exclude_seen: bool = False,
    mode: str = "conservative",
    coverage: bool = True,
    progress: bool = False,
    on_sessions: Callable[[int], object] | None = None,
) -> dict[str, float]:
    """
    Rank the whole catalogue for each prediction and return recall, MRR, NDCG and coverage.

    Parameters
    ----------
    model : GRU4Rec or ThemeMixture
        On any device.
    test : Sessions
        Sessions of the model's vocabulary.
    ks : sequence of int
        Lengths of the list.
    targets : {"all", "last"}
        Predict every event of a session after the first from those before it, or the last one
        only.
    exclude_seen : bool
        Do not rank the items of the history; a target among them is a miss.
    mode : {"conservative", "standard", "median"}
        How ties count, see :func:`seqrec_fast.metrics.rank_from_counts`.
    coverage : bool
        Also return the share of the catalogue that is recommended at least once.
    progress : bool
        Show a progress bar.
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
        If ``targets`` or ``mode`` is unknown, an item is out of range, a weight is not finite,
        or no session has two events.
    """
    test = sessions_to_predict(test, model.n_items, targets)
    longest = min(max(ks), model.n_items)
    covered = np.zeros((longest, model.n_items), dtype=np.bool_)
    ranks = []
    with _scoring(model), tqdm(total=len(test), unit=" sessions", disable=not progress) as bar:
        for part in parts_of(test, _CHUNK_EVENTS):
            for scores, wanted in _scores(model, part, targets, exclude_seen):
                ranks.append(_ranks(scores, wanted, mode))
                if coverage:
                    top, items = (t.cpu() for t in scores.topk(longest))
                    place = torch.arange(longest).expand_as(items)[top > -torch.inf]
                    covered[place.numpy(), items[top > -torch.inf].numpy()] = True
            bar.update(len(part))
            if on_sessions is not None:
                on_sessions(len(part))
    all_ranks = np.concatenate(ranks)
    result = metrics.summarize(all_ranks, ks)
    if coverage:
        for k in ks:
            result[f"coverage@{k}"] = float(covered[:k].any(axis=0).mean())
    return {**result, "predictions": len(all_ranks)}


@contextmanager
def _scoring(model: NextItemModel) -> Iterator[None]:
    """Switch dropout and gradients off for a while."""
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ValueError(f"evaluate: {name} holds a value that is not finite")
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def _scores(
    model: NextItemModel, sessions: Sessions, targets: str, exclude_seen: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield scores (n, n_items) and targets (n,) of some predictions at a time."""
    device = model.item_table.device

    def tensor(array: NDArray[Any]) -> Tensor:
        return moved(torch.from_numpy(array), device)

    inputs = functional.embedding(tensor(sessions.items), model.input_table)
    times: dict[str, Any] = {}
    if model.uses_times and sessions.times is not None:
        times["times"] = tensor(sessions.times)
    hidden, _ = model.run(inputs, tensor(sessions.offsets), **times)
    if targets == "last":
        events = sessions.offsets[1:] - 2
    else:
        last = np.zeros(sessions.n_events, dtype=np.bool_)
        last[sessions.offsets[1:] - 1] = True
        events = np.flatnonzero(~last)
    first = np.repeat(sessions.offsets[:-1], sessions.lengths)
    step = max(1, _CHUNK_SCORES // model.n_items)
    for begin in range(0, len(events), step):
        chunk = events[begin : begin + step]
        scores = model.scores(hidden[tensor(chunk)])
        if exclude_seen:
            seen, offsets = gather(first[chunk], chunk + 1 - first[chunk])
            row = np.repeat(np.arange(len(chunk)), np.diff(offsets))
            scores[tensor(row), tensor(sessions.items[seen])] = -torch.inf
        yield scores, tensor(sessions.items[chunk + 1])


def _ranks(scores: Tensor, wanted: Tensor, mode: str) -> NDArray[np.float64]:
    own = scores.gather(1, wanted[:, None])
    n_greater, n_equal, is_ranked = (
        of_row.cpu().numpy()
        for of_row in ((scores > own).sum(1), (scores == own).sum(1), own[:, 0] > -torch.inf)
    )
    return np.where(is_ranked, metrics.rank_from_counts(n_greater, n_equal - 1, mode), np.inf)
