from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqrec_fast import metrics

# few distinct values, so that ties are common
tables = st.integers(1, 6).flatmap(
    lambda n_items: st.lists(
        st.lists(st.integers(-2, 2), min_size=n_items, max_size=n_items), min_size=1, max_size=5
    )
)


@given(tables, st.data())
def test_ranks_follow_their_definition(table, data) -> None:
    targets = [data.draw(st.integers(0, len(table[0]) - 1)) for _ in table]
    scores = np.array(table, np.float32)
    for i, (row, target) in enumerate(zip(table, targets, strict=True)):
        others = row[:target] + row[target + 1 :]
        best = 1 + sum(value > row[target] for value in others)
        worst = 1 + sum(value >= row[target] for value in others)
        expected = {"standard": best, "conservative": worst, "median": (best + worst) / 2}
        for mode in metrics.TIE_MODES:
            assert metrics.rank_of_targets(scores, targets, mode)[i] == expected[mode]


@given(st.lists(st.integers(1, 40) | st.just(math.inf), min_size=1), st.integers(1, 30))
def test_metrics_follow_their_definition(ranks, k) -> None:
    n = len(ranks)
    inside = [rank for rank in ranks if rank <= k]
    assert metrics.recall_at(ranks, k) == pytest.approx(len(inside) / n)
    assert metrics.mrr_at(ranks, k) == pytest.approx(sum(1 / r for r in inside) / n)
    assert metrics.ndcg_at(ranks, k) == pytest.approx(sum(1 / math.log2(1 + r) for r in inside) / n)


def test_a_known_case() -> None:
    values = metrics.summarize([1, 3, 21, math.inf], ks=(1, 20))
    assert list(values) == ["recall@1", "mrr@1", "ndcg@1", "recall@20", "mrr@20", "ndcg@20"]
    assert values["recall@1"] == 0.25
    assert values["recall@20"] == 0.5
    assert values["mrr@20"] == pytest.approx((1 + 1 / 3) / 4)
    assert values["ndcg@20"] == pytest.approx((1 + 0.5) / 4)


def test_a_model_that_scores_all_items_alike() -> None:
    scores = np.zeros((2, 101))
    assert metrics.rank_of_targets(scores, [0, 50], "standard").tolist() == [1, 1]
    assert metrics.rank_of_targets(scores, [0, 50], "median").tolist() == [51, 51]
    assert metrics.rank_of_targets(scores, [0, 50], "conservative").tolist() == [101, 101]
    assert metrics.rank_of_targets(scores, [0, 50]).tolist() == [101, 101]


def test_half_a_rank_counts_as_it_is() -> None:
    ranks = metrics.rank_from_counts([19], [1], "median")
    assert ranks.tolist() == [20.5]
    assert metrics.recall_at(ranks, 20) == 0
    assert metrics.mrr_at(ranks, 21) == pytest.approx(1 / 20.5)


def test_a_target_without_a_score_is_a_miss() -> None:
    ranks = metrics.rank_of_targets(np.zeros((2, 3)), [-1, 0], "standard")
    assert ranks.tolist() == [math.inf, 1]
    assert metrics.summarize(ranks, ks=(3,)) == {"recall@3": 0.5, "mrr@3": 0.5, "ndcg@3": 0.5}


def test_coverage() -> None:
    assert metrics.coverage([[0, 1], [1, 3]], 6) == 0.5
    assert metrics.coverage([[-1, -1]], 6) == 0
    assert metrics.coverage(np.zeros((0, 5)), 6) == 0
    assert metrics.coverage(np.arange(6)[None], 6) == 1


def test_errors() -> None:
    with pytest.raises(ValueError, match="mode is 'mean'; expected one of standard, conservative"):
        metrics.rank_from_counts([1], [0], "mean")
    with pytest.raises(ValueError, match=r"scores has shape \(1, 2\), targets \(2,\)"):
        metrics.rank_of_targets([[1, 2]], [0, 1])
    for target in (-2, 2):
        with pytest.raises(ValueError, match="expected -1 to 1"):
            metrics.rank_of_targets([[1, 2]], [target])
    with pytest.raises(ValueError, match="holds NaN"):
        metrics.rank_of_targets([[1, math.nan]], [0])
    for ranks in ([], [[1]], 3):
        with pytest.raises(ValueError, match=r"ranks has shape .*; expected \(n,\)"):
            metrics.summarize(ranks)
    for ranks in ([0], [math.nan], [-1, 1]):
        with pytest.raises(ValueError, match="expected 1 or more"):
            metrics.summarize(ranks)
    with pytest.raises(ValueError, match="recall_at: k is 0"):
        metrics.summarize([1], ks=(0,))
    with pytest.raises(ValueError, match="n_items is 0"):
        metrics.coverage([[0]], 0)
    for item in (-2, 3):
        with pytest.raises(ValueError, match="expected 0 to 2"):
            metrics.coverage([[item]], 3)
