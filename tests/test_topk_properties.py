"""Properties of top-k that hold for any data, with scores that tie, are infinite or NaN."""

from __future__ import annotations

from itertools import pairwise

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


SCANS = st.sampled_from(["float32", "int8"])


def combinations():
    """Every CPU target with the float32 scan, and every int8 back end."""
    for target in config.supported_targets():
        with sf.force_target(target):
            yield target, "float32"
    for backend in config.supported_backends("int8"):
        with sf.force_backend("int8", backend):
            yield backend, "int8"


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
def test_equals_the_definition_by_every_scan(problem, data):
    queries, items, k, bias = problem
    lists, exclude = data.draw(exclusions(len(queries), len(items)))
    scores, ids = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    for row, excluded in enumerate(lists):
        allowed = items.copy()
        allowed[excluded] = np.nan
        with np.errstate(invalid="ignore"):
            answer = reference.topk(queries[row : row + 1], allowed, k, bias)
        scores[row], ids[row] = answer[0][0], answer[1][0]
    for name, scan in combinations():
        index = ItemIndex(items, bias=bias, scan=scan)
        got_scores, got_ids = index.topk(queries, k, exclude=exclude)
        np.testing.assert_array_equal(got_ids, ids, err_msg=name)
        np.testing.assert_array_equal(got_scores, scores, err_msg=name)


@given(problem=problems(), scan=SCANS, data=st.data())
@settings(deadline=None)
def test_order_of_queries_does_not_matter(problem, scan, data):
    queries, items, k, bias = problem
    order = np.array(data.draw(st.permutations(range(len(queries)))), np.int64)
    index = ItemIndex(items, bias=bias, scan=scan)
    scores, ids = index.topk(queries, k)
    moved_scores, moved_ids = index.topk(queries[order], k)
    np.testing.assert_array_equal(moved_scores, scores[order])
    np.testing.assert_array_equal(moved_ids, ids[order])


@given(
    seed=st.integers(0, 2**32 - 1),
    n_queries=st.integers(1, 80),
    k=st.integers(1, 300),
    distinct=st.integers(1, 4000),
    scan=SCANS,
)
@settings(deadline=None, max_examples=30)
def test_threads_do_not_matter(seed, n_queries, k, distinct, scan):
    rng = np.random.default_rng(seed)
    items = rng.standard_normal((distinct, 220), dtype=np.float32)[rng.integers(0, distinct, 20000)]
    queries = rng.standard_normal((n_queries, 220), dtype=np.float32)
    index = ItemIndex(items, scan=scan)
    answers = []
    for threads in (1, 2, 3):
        sf.set_num_threads(threads)
        answers.append(index.topk(queries, k))
    for scores, ids in answers[1:]:
        np.testing.assert_array_equal(scores, answers[0][0])
        np.testing.assert_array_equal(ids, answers[0][1])


@given(
    problem=problems(),
    cuts=st.lists(st.integers(0, 150), max_size=3),
    overlap=st.integers(0, 20),
    scan=SCANS,
)
@settings(deadline=None)
def test_the_best_of_shards_are_the_best_of_the_whole(problem, cuts, overlap, scan):
    queries, items, k, bias = problem
    n_items = len(items)
    expected = ItemIndex(items, bias=bias, scan=scan).topk(queries, k)
    bounds = sorted(min(cut, n_items) for cut in (0, *cuts, n_items))
    parts = []
    for begin, end in pairwise(bounds):
        part = slice(max(0, begin - overlap), end)
        own = None if bias is None else bias[part]
        shard = ItemIndex(items[part], bias=own, scan=scan, id_offset=part.start, n_ids=n_items)
        parts.append(shard.topk(queries, k))
    for ours, theirs in zip(sf.merge_topk(parts, k), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(problem=problems(special=True), scan=SCANS, data=st.data())
@settings(deadline=None)
def test_ranks_are_the_places_in_the_sorted_catalogue(problem, scan, data):
    queries, items, _, bias = problem
    if len(items) == 0:
        queries = queries[:0]
    last = max(0, len(items) - 1)
    wanted = data.draw(arrays(np.int64, len(queries), elements=st.integers(0, last)))
    lists, exclude = data.draw(exclusions(len(queries), len(items)))
    expected = []
    for query, target, excluded in zip(queries, wanted, lists, strict=True):
        allowed = items.copy()
        allowed[excluded] = np.nan
        with np.errstate(invalid="ignore"):
            expected.extend(reference.rank_of(query[None], allowed, [target], bias))
    index = ItemIndex(items, bias=bias, scan=scan)
    assert index.rank_of(queries, wanted, exclude=exclude).tolist() == expected


@given(problem=problems(special=True), scan=SCANS, data=st.data())
@settings(deadline=None)
def test_allowed_items_are_the_catalogue(problem, scan, data):
    queries, items, k, bias = problem
    mask = data.draw(arrays(np.bool_, (len(queries), len(items))))
    index = ItemIndex(items, bias=bias, scan=scan)
    scores, ids = index.topk(queries, k, allow=mask)
    for row, query in enumerate(queries):
        banned = np.flatnonzero(~mask[row])
        expected = index.topk(query, k, exclude=(banned, np.array([0, len(banned)])))
        np.testing.assert_array_equal(ids[row], expected[1])
        np.testing.assert_array_equal(scores[row], expected[0])


@given(
    seed=st.integers(0, 2**32 - 1),
    scan=SCANS,
    precision=st.sampled_from(["float32", "bfloat16"]),
    with_bias=st.booleans(),
    n_items=st.integers(0, 200),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 130)), max_size=6),
)
@settings(deadline=None)
def test_a_changed_index_is_like_a_new_one(seed, scan, precision, with_bias, n_items, steps):
    rng = np.random.default_rng(seed)

    def draw(n):
        rows = rng.standard_normal((n, 5), dtype=np.float32)
        rows *= np.float32(10.0 ** rng.integers(-3, 3))
        return rows, rng.standard_normal(n, dtype=np.float32) if with_bias else None

    items, bias = draw(n_items)
    options = {"precision": precision, "scan": scan}
    index = ItemIndex(items, bias=bias, **options)
    for appends, n in steps:
        if appends:
            rows, own = draw(n)
            ids = index.extend(rows, bias=own)
            assert ids.tolist() == list(range(len(items), len(items) + n))
            items = np.concatenate([items, rows])
            bias = None if own is None else np.concatenate([bias, own])
        else:
            ids = rng.permutation(len(items))[:n]
            rows, own = draw(len(ids))
            keeps = with_bias and n % 2 == 0
            index.update(ids, rows, bias=None if keeps else own)
            items[ids] = rows
            if with_bias and not keeps:
                bias[ids] = own
    queries = rng.standard_normal((3, 5), dtype=np.float32)
    fresh = ItemIndex(items, bias=bias, **options)
    assert len(index) == len(fresh)
    for ours, theirs in zip(index.topk(queries, 20), fresh.topk(queries, 20), strict=True):
        np.testing.assert_array_equal(ours, theirs)
