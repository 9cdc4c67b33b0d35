"""Properties of top-k that hold for any data, with scores that tie, are infinite or NaN."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import seqrec_fast as sf
from seqrec_fast import ItemIndex, config, reference


@pytest.fixture(autouse=True)
def _keep_threads():
    before = sf.get_num_threads()
    yield
    sf.set_num_threads(before)


# Small integers: their dot products are exact in float32, and most of them tie.
SMALL = st.integers(-2, 2).map(np.float32)
SPECIAL = st.one_of(SMALL, st.sampled_from([np.float32(v) for v in (np.nan, np.inf, -np.inf)]))


@st.composite
def problems(draw, special=False):
    n_items, dim, n_queries = draw(st.integers(0, 150)), draw(st.integers(1, 9)), draw(
        st.integers(0, 12)
    )  # fmt: skip
    values = SPECIAL if special else SMALL
    items = draw(arrays(np.float32, (n_items, dim), elements=values))
    queries = draw(arrays(np.float32, (n_queries, dim), elements=SMALL))
    bias = draw(st.none() | arrays(np.float32, n_items, elements=values))
    return queries, items, draw(st.integers(1, n_items + 3)), bias


@st.composite
def exclusions(draw, n_queries, n_items):
    ids = st.integers(0, n_items - 1) if n_items else st.nothing()
    lists = [draw(st.lists(ids, max_size=2 * n_items)) for _ in range(n_queries)]
    values = np.array([item for row in lists for item in row], np.int64)
    return lists, (values, np.cumsum([0, *map(len, lists)]))


@given(problem=problems(special=True), data=st.data())
@settings(deadline=None, max_examples=60)
def test_equals_the_definition_on_every_target(problem, data):
    queries, items, k, bias = problem
    lists, exclude = data.draw(exclusions(len(queries), len(items)))
    scores, ids = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    for row, excluded in enumerate(lists):
        allowed = items.copy()
        allowed[excluded] = np.nan
        with np.errstate(invalid="ignore"):
            answer = reference.topk(queries[row : row + 1], allowed, k, bias)
        scores[row], ids[row] = answer[0][0], answer[1][0]
    for target in config.supported_targets():
        with sf.force_target(target):
            got_scores, got_ids = ItemIndex(items, bias).topk(queries, k, exclude)
        np.testing.assert_array_equal(got_ids, ids, err_msg=target)
        np.testing.assert_array_equal(got_scores, scores, err_msg=target)


@given(problem=problems(), data=st.data())
@settings(deadline=None)
def test_order_of_queries_does_not_matter(problem, data):
    queries, items, k, bias = problem
    order = np.array(data.draw(st.permutations(range(len(queries)))), np.int64)
    index = ItemIndex(items, bias)
    scores, ids = index.topk(queries, k)
    moved_scores, moved_ids = index.topk(queries[order], k)
    np.testing.assert_array_equal(moved_scores, scores[order])
    np.testing.assert_array_equal(moved_ids, ids[order])


@given(
    seed=st.integers(0, 2**32 - 1),
    n_queries=st.integers(1, 80),
    k=st.integers(1, 300),
    distinct=st.integers(1, 4000),
)
@settings(deadline=None, max_examples=30)
def test_threads_do_not_matter(seed, n_queries, k, distinct):
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((distinct, 220), dtype=np.float32)[rng.integers(0, distinct, 20000)]
    queries = rng.standard_normal((n_queries, 220), dtype=np.float32)
    index = ItemIndex(items)
    answers = []
    for threads in (1, 2, 3):
        sf.set_num_threads(threads)
        answers.append(index.topk(queries, k))
    for scores, ids in answers[1:]:
        np.testing.assert_array_equal(scores, answers[0][0])
        np.testing.assert_array_equal(ids, answers[0][1])


@given(problem=problems(), cut=st.integers(0, 150))
@settings(deadline=None)
def test_the_best_of_two_parts_are_the_best_of_the_whole(problem, cut):
    queries, items, k, bias = problem
    cut = min(cut, len(items))
    scores, ids = ItemIndex(items, bias).topk(queries, k)
    parts = []
    for part in (slice(0, cut), slice(cut, None)):
        own = None if bias is None else bias[part]
        part_scores, part_ids = ItemIndex(items[part], own).topk(queries, k)
        parts.append((part_scores, np.where(part_ids < 0, -1, part_ids + part.start)))
    both_scores = np.concatenate([p[0] for p in parts], axis=1)
    both_ids = np.concatenate([p[1] for p in parts], axis=1)
    for row in range(len(queries)):
        order = np.lexsort((both_ids[row], -both_scores[row], both_ids[row] < 0))[:k]
        np.testing.assert_array_equal(both_ids[row, order], ids[row])
        np.testing.assert_array_equal(both_scores[row, order], scores[row])
