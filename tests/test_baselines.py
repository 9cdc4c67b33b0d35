from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqrec_fast import metrics
from seqrec_fast.baselines import ItemKNN, Popularity, evaluate, recommend
from seqrec_fast.data import Sessions

N = 6
lists_of_items = st.lists(st.lists(st.integers(0, N - 1), max_size=8), min_size=1, max_size=8)


def test_popularity() -> None:
    model = Popularity(Sessions.from_lists([[2, 2, 0], [2, 3]]), n_items=5)
    items, scores = recommend(model, Sessions.from_lists([[2], []]), k=4)
    assert items.tolist() == [[2, 0, 3, 1]] * 2
    assert scores.tolist() == [[3, 1, 1, 0]] * 2
    assert items.dtype == np.int64
    assert scores.dtype == np.float32


def test_item_knn_by_hand() -> None:
    train = Sessions.from_lists([[0, 1, 2], [0, 2]])
    scores = ItemKNN(train, n_items=4).scores(Sessions.from_lists([[0], [0, 1], [3], []]))
    # after 0 (twice in the log): 1 at one step, 2 at two steps and at one
    np.testing.assert_allclose(scores[0], [0, 0.5, 0.75, 0])
    np.testing.assert_allclose(scores[1], [0, 0.25, 1 + 0.375, 0])
    np.testing.assert_allclose(scores[2:], 0)


@given(lists_of_items, lists_of_items, st.integers(1, 4), st.integers(1, 4))
def test_item_knn_equals_the_obvious_program(train, prefixes, steps, context) -> None:
    pairs: Counter = Counter()
    support = Counter(item for session in train for item in session)
    for session in train:
        for i, item in enumerate(session):
            for d in range(1, steps + 1):
                if i >= d:
                    pairs[session[i - d], item] += 1 / d
    expected = np.zeros((len(prefixes), N))
    for row, prefix in enumerate(prefixes):
        for d, item in enumerate(prefix[::-1][:context], start=1):
            for other in range(N):
                expected[row, other] += pairs[item, other] / max(1, support[item]) / d
    model = ItemKNN(Sessions.from_lists(train), N, steps, context)
    np.testing.assert_allclose(model.scores(Sessions.from_lists(prefixes)), expected, rtol=1e-6)


def test_recommend_ties_exclusion_and_short_lists() -> None:
    model = Popularity(Sessions.from_lists([[1, 1, 0, 2]]), n_items=4)
    prefixes = Sessions.from_lists([[1, 0], [0, 1, 2, 3]])
    items, scores = recommend(model, prefixes, k=3, exclude_seen=True)
    assert items.tolist() == [[2, 3, -1], [-1, -1, -1]]
    assert scores[0].tolist() == [1, 0, -np.inf]
    items, scores = recommend(model, prefixes, k=10**12)
    assert items.tolist() == [[1, 0, 2, 3]] * 2
    assert scores.shape == (2, 4)
    with pytest.raises(ValueError, match="k is 0"):
        recommend(model, prefixes, k=0)


@settings(deadline=None)
@given(
    lists_of_items,
    lists_of_items.filter(lambda lists: any(len(one) > 1 for one in lists)),
    st.sampled_from(["all", "last"]),
    st.booleans(),
    st.sampled_from(metrics.TIE_MODES),
)
def test_evaluate_equals_the_obvious_program(train, test, targets, exclude, mode) -> None:
    model = ItemKNN(Sessions.from_lists(train), N)
    ranks = []
    for session in test:
        for i in range(1, len(session)):
            if targets == "last" and i < len(session) - 1:
                continue
            scores = model.scores(Sessions.from_lists([session[:i]])).copy()
            if exclude and session[i] in session[:i]:
                ranks.append(np.inf)
                continue
            if exclude:
                scores[0, session[:i]] = -np.inf
            ranks.append(metrics.rank_of_targets(scores, [session[i]], mode)[0])
    result = evaluate(
        model,
        Sessions.from_lists(test),
        ks=(1, 3),
        targets=targets,
        exclude_seen=exclude,
        mode=mode,
    )
    assert result.pop("predictions") == len(ranks)
    assert result == pytest.approx(metrics.summarize(ranks, ks=(1, 3)))


def test_a_large_catalogue_is_scored_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sessions = Sessions(rng.integers(0, 50, 600), np.arange(0, 601, 6))
    model = ItemKNN(sessions, 50)
    whole = evaluate(model, sessions), recommend(model, sessions)[0].tolist()
    monkeypatch.setattr("seqrec_fast.baselines._BLOCK_SCORES", 350)
    assert (evaluate(model, sessions), recommend(model, sessions)[0].tolist()) == whole


def test_errors() -> None:
    sessions = Sessions.from_lists([[0, 5]])
    for make in (Popularity, ItemKNN):
        with pytest.raises(ValueError, match=rf"{make.__name__}: items from 0 to 5; expected 0 to"):
            make(sessions, n_items=5)
    with pytest.raises(ValueError, match="steps is 0"):
        ItemKNN(sessions, 6, steps=0)
    with pytest.raises(ValueError, match="context is 0"):
        ItemKNN(sessions, 6, context=0)
    model = Popularity(sessions, n_items=6)
    with pytest.raises(ValueError, match="no session has two events"):
        evaluate(model, Sessions.from_lists([[1], []]))
    with pytest.raises(ValueError, match="targets is 'next'"):
        evaluate(model, sessions, targets="next")
    with pytest.raises(ValueError, match="evaluate: items from 6 to 7"):
        evaluate(model, Sessions.from_lists([[6, 7]]))
