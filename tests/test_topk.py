"""Exact top-k against its float64 definition, on every CPU target, by every scan."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import seqrec_fast as sf
from seqrec_fast import ItemIndex, config, reference

EPSILON = np.finfo(np.float32).eps


@pytest.fixture(params=config.supported_targets(), autouse=True)
def target(request):
    with sf.force_target(request.param):
        yield request.param


@pytest.fixture(params=["float32", "int8"])
def index_of(request):
    """Make an index that finds candidates by one of the scans."""

    def make(items, bias=None, **options):
        return ItemIndex(items, bias=bias, scan=request.param, **options)

    return make


@pytest.fixture(autouse=True)
def _keep_threads():
    before = sf.get_num_threads()
    yield
    sf.set_num_threads(before)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def exclusion(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    return np.concatenate([np.asarray(row, np.int64) for row in lists]), offsets


def check(index_of, queries, items, k, bias=None):
    """The answer is the best one, up to the rounding of the scores, and in order."""
    index = index_of(items, bias)
    scores, ids = index.topk(queries, k)
    assert scores.dtype == np.float32
    assert ids.dtype == np.int64
    assert scores.shape == ids.shape == (len(queries), k)
    truth = queries.astype(float) @ items.astype(float).T + (0 if bias is None else bias)
    size = np.abs(queries).astype(float) @ np.abs(items).astype(float).T
    size += 0 if bias is None else np.abs(bias)
    tolerance = (items.shape[1] + 1) * EPSILON * size.max(axis=1, keepdims=True) + 1e-45
    kept = min(k, len(items))
    assert (ids[:, :kept] >= 0).all()
    assert (ids[:, kept:] == -1).all()
    assert (scores[:, kept:] == -np.inf).all()
    best = -np.sort(-truth, axis=1)[:, :kept]
    assert (np.abs(np.take_along_axis(truth, ids[:, :kept], 1) - best) <= tolerance).all()
    assert (np.abs(scores[:, :kept] - best) <= tolerance).all()
    for row_scores, row_ids in zip(scores[:, :kept], ids[:, :kept], strict=True):
        assert len(set(row_ids)) == kept
        order = list(zip(-row_scores, row_ids, strict=True))
        assert order == sorted(order)
    return index, scores, ids


HOSTILE = {
    "normal": lambda f: (f(16, 64), f(5000, 64), 20, None),
    "odd dim and k": lambda f: (f(4, 50), f(999, 50), 40, None),
    "one term": lambda f: (f(3, 1), f(300, 1), 9, None),
    "many terms": lambda f: (f(3, 513), f(300, 513), 9, None),
    "k beyond N": lambda f: (f(3, 16), f(10, 16), 25, None),
    "k is N": lambda f: (f(3, 16), f(301, 16), 301, None),
    "heavy norms": lambda f: (f(33, 64), f(3000, 64) * np.exp(2 * f(3000, 1)), 100, None),
    "outlier": lambda f: (f(9, 32), f(3000, 32) * np.eye(32, dtype="f")[5] * 1e4, 10, None),
    "all negative": lambda f: (-np.abs(f(9, 32)), np.abs(f(3001, 32)), 10, None),
    "zero items": lambda f: (f(4, 32), np.zeros((1000, 32), "f"), 7, None),
    "bias": lambda f: (f(12, 64), f(3000, 64), 20, f(3000) * 5),
    "bias alone decides": lambda f: (f(12, 8) * 1e-9, f(999, 8), 20, f(999)),
    "tiny": lambda f: (f(6, 64) * np.float32(1e-30), f(999, 64) * np.float32(1e-6), 10, None),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_best_items_in_order(index_of, case, rng):
    check(index_of, *HOSTILE[case](lambda *shape: normal(rng, *shape)))


@pytest.mark.parametrize("n_items", [1, 2, 15, 16, 17, 47, 63, 64, 65, 127, 129])
@pytest.mark.parametrize("bias", [False, True])
def test_lanes_beyond_the_last_item_are_never_returned(index_of, n_items, bias, rng):
    items = -np.abs(normal(rng, n_items, 3))
    low = np.full(n_items, -np.inf, np.float32) if bias else None
    scores, ids = index_of(items, low).topk(np.abs(normal(rng, 5, 3)), n_items + 20)
    assert (np.sort(ids[:, :n_items]) == np.arange(n_items)).all()
    assert (ids[:, n_items:] == -1).all()
    assert (scores[:, n_items:] == -np.inf).all()


def test_ties_go_to_the_smaller_id(index_of, rng):
    items = normal(rng, 2000, 24)
    items[::3] = items[0]
    queries = normal(rng, 17, 24)
    queries[5] = items[0]
    _, _, ids = check(index_of, queries, items, 50)
    assert (ids[5] == np.arange(0, 150, 3)).all()
    same = index_of(np.ones((999, 4), np.float32)).topk(queries[:, :4], 30)[1]
    assert (same == np.arange(30)).all()


def test_integers_are_exact_with_all_their_ties(index_of, rng):
    items = rng.integers(-3, 4, (2500, 5)).astype(np.float32)
    queries = rng.integers(-3, 4, (70, 5)).astype(np.float32)
    bias = rng.integers(-1, 2, 2500).astype(np.float32)
    for k in (1, 3, 40, 600):
        for used in (None, bias):
            scores, ids = index_of(items, used).topk(queries, k)
            expected_scores, expected_ids = reference.topk(queries, items, k, used)
            np.testing.assert_array_equal(ids, expected_ids)
            np.testing.assert_array_equal(scores, expected_scores)


def test_ascending_scores_where_every_item_is_a_candidate(index_of):
    items = np.arange(5000, dtype=np.float32)[:, None]
    for k in (1, 20, 333):
        scores, ids = index_of(items).topk(np.ones((3, 1), np.float32), k)
        assert (ids == np.arange(4999, 4999 - k, -1)).all()
        assert (scores == ids).all()


def test_signed_zeros_are_equal(index_of):
    bias = np.array([-0.0, 0.0, -0.0, 0.0], np.float32)
    tiny = np.array([[-1e-30], [1e-30], [-1e-30], [1e-30]], np.float32)
    for index in (index_of(tiny, bias), index_of(tiny)):
        scores, ids = index.topk(np.array([1e-30], np.float32), 4)
        assert ids.tolist() == [0, 1, 2, 3]
        assert not np.signbit(scores).any()


def test_nan_scores_are_never_returned(index_of, rng):
    items = normal(rng, 500, 8)
    items[7] = np.nan
    items[300, 3] = np.nan
    queries = normal(rng, 9, 8)
    queries[4, 2] = np.nan
    bias = np.zeros(500, np.float32)
    bias[11] = np.nan
    for used, bad in ((None, [7, 300]), (bias, [7, 11, 300])):
        scores, ids = index_of(items, used).topk(queries, 500)
        assert not np.isin(ids, bad).any()
        assert not np.isnan(scores).any()
        assert (ids[4] == -1).all()
        assert (scores[4] == -np.inf).all()
        good = np.delete(ids, 4, axis=0)
        assert ((good >= 0).sum(axis=1) == 500 - len(bad)).all()


def test_infinite_scores_are_scores(index_of):
    items = np.array([[1, 0], [np.inf, 0], [-np.inf, 0], [np.inf, 0], [0, np.inf]], np.float32)
    scores, ids = index_of(items).topk(np.array([1, 1], np.float32), 6)
    assert ids.tolist() == [1, 3, 4, 0, 2, -1]
    assert scores.tolist() == [np.inf, np.inf, np.inf, 1, -np.inf, -np.inf]
    many = np.full((400, 1), np.inf, np.float32)
    assert (index_of(many).topk(np.ones(1, np.float32), 5)[1] == np.arange(5)).all()
    assert (index_of(-many).topk(np.ones(1, np.float32), 5)[1] == np.arange(5)).all()


def test_a_score_is_that_of_the_pair_alone(index_of, rng):
    items, queries, bias = normal(rng, 130, 37), normal(rng, 9, 37), normal(rng, 130)
    for used in (None, bias):
        scores, ids = index_of(items, used).topk(queries, 130)
        for item in (0, 13, 64, 129):
            own = None if used is None else used[item : item + 1]
            alone = index_of(items[item : item + 1], own)
            for row, query in enumerate(queries):
                assert alone.topk(query, 1)[0][0] == scores[row, ids[row] == item][0]


def test_a_score_is_one_chain_of_multiply_adds_with_the_bias_last(index_of, rng, target):
    items, query, bias = normal(rng, 40, 150), normal(rng, 150), normal(rng, 40)
    fused = target not in ("scalar", "sse4")
    chain = np.zeros(40, np.float32)
    for term, factor in zip(items.T, query, strict=True):
        if fused:  # the product is exact in float64
            chain = (term.astype(float) * factor + chain).astype(np.float32)
        else:
            chain = term * factor + chain
    for used, expected in ((None, chain), (bias, chain + bias)):
        scores, ids = index_of(items, used).topk(query, 40)
        np.testing.assert_array_equal(scores, expected[ids])


@pytest.mark.parametrize("n_queries", [1, 2, 3, 5, 6, 7, 63, 64, 65, 130])
def test_same_bits_for_every_batch_size_and_thread_count(index_of, n_queries, rng):
    items, queries = normal(rng, 4001, 48), normal(rng, 130, 48)
    items[1000:3000:7] = items[3]
    index = index_of(items, normal(rng, 4001))
    sf.set_num_threads(1)
    scores, ids = index.topk(queries, 30)
    for threads in (1, 2, 3):
        sf.set_num_threads(threads)
        part_scores, part_ids = index.topk(queries[:n_queries], 30)
        np.testing.assert_array_equal(part_ids, ids[:n_queries])
        np.testing.assert_array_equal(part_scores, scores[:n_queries])


@pytest.mark.parametrize("k", [1, 20, 100000])
def test_ranges_of_items_merge_exactly(index_of, k, rng):
    items = rng.integers(-2, 3, (100000, 64)).astype(np.float32)
    queries = rng.integers(-2, 3, (3, 64)).astype(np.float32)
    index = index_of(items)
    lists = rng.integers(0, 100000, (3, 500))
    expected = reference.topk(queries, items, k)
    for threads in (1, 2, 3):
        sf.set_num_threads(threads)
        np.testing.assert_array_equal(index.topk(queries, k)[1], expected[1])
        without = index.topk(queries, k, exclude=exclusion(lists))[1]
        for row, excluded in enumerate(lists):
            allowed = expected[1][row][~np.isin(expected[1][row], excluded)]
            np.testing.assert_array_equal(without[row, : len(allowed)], allowed)


def test_reservoirs_too_large_for_a_full_tile(index_of, rng):
    items = normal(rng, 150000, 1)
    scores, ids = index_of(items).topk(np.ones((20, 1), np.float32), 70000)
    order = np.argsort(-items[:, 0], kind="stable")[:70000]
    assert (ids == order).all()
    assert (scores == items[order, 0]).all()


def test_exclusion_unsorted_with_duplicates(index_of, rng):
    items, queries = normal(rng, 900, 16), normal(rng, 70, 16)
    lists = [rng.integers(0, 900, rng.integers(0, 400)) for _ in queries]
    lists[5] = np.arange(900)[::-1]
    lists[6] = np.arange(895)
    values, offsets = exclusion(lists)
    kept = values.copy()
    scores, ids = index_of(items).topk(queries, 30, exclude=(values, offsets))
    np.testing.assert_array_equal(values, kept)
    truth = queries.astype(float) @ items.astype(float).T
    for row, excluded in enumerate(lists):
        truth[row, excluded] = -np.inf
    count = np.minimum(30, (truth > -np.inf).sum(axis=1))
    expected = np.argsort(-truth, axis=1, kind="stable")[:, :30]
    expected[np.arange(30) >= count[:, None]] = -1
    np.testing.assert_array_equal(ids, expected)
    assert (scores[ids == -1] == -np.inf).all()
    assert (ids[5] == -1).all()
    assert sorted(ids[6, :5]) == [895, 896, 897, 898, 899]


def test_exclusion_of_nothing_changes_nothing(index_of, rng):
    index, queries = index_of(normal(rng, 100, 8)), normal(rng, 4, 8)
    nothing = (np.empty(0, np.int64), np.zeros(5, np.int64))
    np.testing.assert_array_equal(
        index.topk(queries, 9, exclude=nothing)[1], index.topk(queries, 9)[1]
    )


def test_empty_catalogue_and_empty_batch(index_of):
    index = index_of(np.empty((0, 4), np.float32))
    scores, ids = index.topk(np.ones((2, 4), np.float32), 3)
    assert len(index) == 0
    assert (ids == -1).all()
    assert (scores == -np.inf).all()
    scores, ids = index_of(np.ones((9, 4), np.float32)).topk(np.empty((0, 4), np.float32), 3)
    assert scores.shape == ids.shape == (0, 3)


def test_more_than_the_catalogue_fills_up(index_of, rng):
    items, queries = (
        rng.standard_normal((7, 4), np.float32),
        rng.standard_normal((3, 4), np.float32),
    )
    index = index_of(items)
    scores, ids = index.topk(queries, 7)
    more_scores, more_ids = index.topk(queries, 100_000, k_per_query=np.array([9, 7, 2]))
    assert more_ids.shape == (3, 100_000)
    assert (more_ids[:2, :7] == ids[:2]).all()
    assert (more_scores[:2, :7] == scores[:2]).all()
    assert (more_ids[2, :2] == ids[2, :2]).all()
    assert (more_ids[:2, 7:] == -1).all()
    assert (more_ids[2, 2:] == -1).all()
    assert (more_scores[:, 7:] == -np.inf).all()


def test_one_query_gives_vectors(index_of, rng):
    index, queries = index_of(normal(rng, 100, 8)), normal(rng, 2, 8)
    scores, ids = index.topk(queries[1], np.int32(7))
    both = index.topk(queries, 7)
    assert scores.shape == ids.shape == (7,)
    np.testing.assert_array_equal(scores, both[0][1])
    np.testing.assert_array_equal(ids, both[1][1])
    one = index.topk(queries[0], 9, exclude=(ids[:2].copy(), np.array([0, 2])))[1]
    assert not np.isin(ids[:2], one).any()


def test_views_and_read_only_arrays(index_of, rng):
    items, queries = normal(rng, 200, 16), normal(rng, 6, 16)
    expected = index_of(items).topk(queries, 5)
    wide = np.zeros((16, 400), np.float32)
    wide[:, ::2] = items.T
    queries.flags.writeable = False
    view = index_of(wide[:, ::2].T)
    items[:] = 0  # the index has its own copy
    np.testing.assert_array_equal(view.topk(queries, 5)[1], expected[1])
    np.testing.assert_array_equal(view.topk(queries[::-1], 5)[0], expected[0][::-1])


@pytest.mark.parametrize(("n_items", "dim"), [(1, 1), (63, 7), (64, 16), (65, 50), (300, 16)])
@pytest.mark.parametrize("n_queries", [1, 6, 33])
def test_one_call_equals_an_index(index_of, n_items, dim, n_queries, rng):
    items, queries, bias = normal(rng, n_items, dim), normal(rng, n_queries, dim), normal(rng, 300)
    index = index_of(items, bias[:n_items])
    filters = [
        {},
        {"exclude": exclusion([[0]] * n_queries)},
        {"allow": rng.random(n_items) < 0.5},
        {"allow": (np.arange(0, n_items, 9), np.array([0, (n_items + 8) // 9]))},
    ]
    for options in filters[: 4 if n_queries == 1 else 3]:
        got = sf.topk(queries, items, 9, bias=bias[:n_items], **options)
        for a, b in zip(got, index.topk(queries, 9, **options), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_index_says_how_large_it_is(index_of, rng):
    index = index_of(normal(rng, 300, 16), normal(rng, 300))
    assert (len(index), index.dim) == (300, 16)
    assert index.nbytes >= 300 * 17 * 4
    assert "300" in repr(index)


def test_concurrent_calls(index_of, rng):
    index, queries = index_of(normal(rng, 3000, 32)), normal(rng, 40, 32)
    expected = index.topk(queries, 11)
    sf.set_num_threads(2)
    with ThreadPoolExecutor(4) as pool:
        for scores, ids in pool.map(lambda _: index.topk(queries, 11), range(40)):
            np.testing.assert_array_equal(scores, expected[0])
            np.testing.assert_array_equal(ids, expected[1])


ITEMS = np.ones((10, 4), np.float32)
QUERIES = np.ones((2, 4), np.float32)


def offsets(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ItemIndex(ITEMS.astype(float)), TypeError, "ItemIndex: items is float64"),
        (lambda: ItemIndex(ITEMS.astype(np.float16)), TypeError, "items is float16"),
        (lambda: ItemIndex([[1, 2]]), TypeError, "items is int64; expected float32"),
        (lambda: ItemIndex(ITEMS[0]), ValueError, r"items has shape \(4,\)"),
        (lambda: ItemIndex(ITEMS[:, :0]), ValueError, r"items has shape \(10, 0\)"),
        (lambda: ItemIndex(ITEMS, bias=np.ones(10)), TypeError, "bias is float64"),
        (lambda: ItemIndex(ITEMS, bias=ITEMS[0]), ValueError, r"bias has shape \(4,\).*\(10,\)"),
        (lambda: sf.topk(QUERIES, ITEMS, 0), ValueError, "topk: k is 0; expected at least 1"),
        (lambda: sf.topk(QUERIES, ITEMS, -3), ValueError, "topk: k is -3"),
        (lambda: sf.topk(QUERIES, ITEMS, 1.5), TypeError, "topk: k is 1.5; expected an int"),
        (lambda: sf.topk(QUERIES, ITEMS, 2**50), MemoryError, r"topk: k is \d+; no memory for ans"),
        (lambda: sf.topk(QUERIES, ITEMS, 2**62), MemoryError, r"topk: k is \d+; no memory for ans"),
        (lambda: ItemIndex(ITEMS, id_offset=2.5), TypeError, "id_offset is 2.5; expected an int"),
        (lambda: sf.topk(QUERIES.astype(float), ITEMS, 1), TypeError, "queries is float64"),
        (lambda: sf.topk(QUERIES[:, :3], ITEMS, 1), ValueError, r"shape \(2, 3\); expected \(B, 4"),
        (lambda: sf.topk(QUERIES[None], ITEMS, 1), ValueError, r"shape \(1, 2, 4\)"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("exclude", "error", "message"),
    [
        ((offsets(10), offsets(0, 1, 1)), ValueError, "exclude holds the id 10.*0 to 9"),
        ((offsets(3, -1), offsets(0, 1, 2)), ValueError, "exclude holds the id -1 at index 1"),
        ((offsets(3), offsets(0, 1)), ValueError, "2 entries; expected 3 for 2 queries"),
        ((offsets(3), offsets(1, 1, 1)), ValueError, "start at 1"),
        ((offsets(3, 4), offsets(0, 2, 1)), ValueError, "decrease from 2 to 1 at index 2"),
        ((offsets(3), offsets(0, 1, 2)), ValueError, "end at 2; expected 1"),
        ((offsets(3), offsets(0, 0, 0)), ValueError, "end at 0; expected 1"),
        ((offsets(3).astype(float), offsets(0, 1, 1)), TypeError, "exclude values is float64"),
        ((offsets(3), offsets(0, 1, 1).astype(np.int32)), TypeError, "exclude offsets is int32"),
        ((offsets(3)[None], offsets(0, 1, 1)), ValueError, r"exclude values has shape \(1, 1\)"),
        (offsets(3), TypeError, "exclude is ndarray"),
    ],
)
def test_bad_exclusions(exclude, error, message):
    with pytest.raises(error, match=message):
        ItemIndex(ITEMS).topk(QUERIES, 3, exclude=exclude)
