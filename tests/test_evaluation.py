from __future__ import annotations

import numpy as np
import pytest
import torch

from seqrec_fast import metrics
from seqrec_fast.data import Sessions
from seqrec_fast.models import GRU4Rec
from seqrec_fast.training import evaluate, evaluation

N = 9
KS = (1, 2, 5)
TEST = Sessions.from_lists([[1, 2, 3, 2], [4], [5, 5, 6], [], [0, 7, 8, 1, 0, 2]])


@pytest.fixture
def model() -> GRU4Rec:
    return GRU4Rec(N, embedding_dim=4, hidden_size=4, dropout_hidden=0.5, seed=3)


def naive(model, targets, exclude_seen, mode):
    """One prediction at a time, all scores in a list."""
    model.eval()
    ranks, tops = [], []
    for session in range(len(TEST)):
        items = TEST[session].tolist()
        first = max(1, len(items) - 1) if targets == "last" else 1
        for end in range(first, len(items)):
            hidden, _ = model(torch.tensor(items[:end]), torch.tensor([0, end]))
            scores = model.scores(hidden[-1:])[0].detach().numpy()
            allowed = [i for i in range(N) if not (exclude_seen and i in items[:end])]
            tops.append(sorted(allowed, key=lambda i: (-scores[i], i)))
            target = items[end]
            if target not in allowed:
                ranks.append(np.inf)
                continue
            greater = sum(scores[i] > scores[target] for i in allowed)
            equal = sum(scores[i] == scores[target] for i in allowed) - 1
            ranks.append(metrics.rank_from_counts(greater, equal, mode))
    result = metrics.summarize(ranks, KS)
    for k in KS:
        result[f"coverage@{k}"] = len({i for top in tops for i in top[:k]}) / N
    return {**result, "predictions": len(ranks)}


@pytest.mark.parametrize("targets", ["all", "last"])
@pytest.mark.parametrize("exclude_seen", [False, True])
@pytest.mark.parametrize("chunk", [1, 1 << 14])
def test_equals_a_naive_loop(model, monkeypatch, targets, exclude_seen, chunk) -> None:
    monkeypatch.setattr(evaluation, "_CHUNK_EVENTS", chunk)
    monkeypatch.setattr(evaluation, "_CHUNK_SCORES", chunk)
    result = evaluate(model, TEST, KS, targets=targets, exclude_seen=exclude_seen)
    assert result == pytest.approx(naive(model, targets, exclude_seen, "conservative"))


@pytest.mark.parametrize(("mode", "rank"), [("standard", 1), ("median", 5), ("conservative", N)])
def test_ties(model, mode, rank) -> None:
    torch.nn.init.zeros_(model.item_table)
    result = evaluate(model, TEST, (N,), mode=mode)
    assert result[f"mrr@{N}"] == pytest.approx(1 / rank)


def test_leaves_the_model_as_it_was(model) -> None:
    model.train()
    evaluate(model, TEST)
    assert model.training
    assert evaluate(model, TEST) == evaluate(model.eval(), TEST)
    assert not model.training


def test_lists_longer_than_the_catalogue(model) -> None:
    result = evaluate(model, TEST, (1, 100))
    assert result["recall@100"] == 1
    assert result["coverage@100"] == 1


def test_coverage_can_be_left_out(model) -> None:
    result = evaluate(model, TEST, (3,), coverage=False)
    assert set(result) == {"recall@3", "mrr@3", "ndcg@3", "predictions"}


def test_bad_input_is_named(model) -> None:
    with pytest.raises(ValueError, match="targets is 'first'; expected 'all' or 'last'"):
        evaluate(model, TEST, targets="first")
    with pytest.raises(ValueError, match="mode is 'mean'"):
        evaluate(model, TEST, mode="mean")
    with pytest.raises(ValueError, match=r"items from 0 to 9; expected 0 to 8"):
        evaluate(model, Sessions.from_lists([[0, 9]]))
    with pytest.raises(ValueError, match="no session has two events"):
        evaluate(model, Sessions.from_lists([[1], []]))
    with pytest.raises(ValueError, match="k is 0"):
        evaluate(model, TEST, (0,))
    with torch.no_grad():
        model.output.bias[2] = torch.nan
    with pytest.raises(ValueError, match=r"output\.bias holds a value that is not finite"):
        evaluate(model, TEST)
