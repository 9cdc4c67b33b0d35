"""Item indices that change, also while they are asked."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from item_cases import ints, normal, ragged, same, shards
from seqrec_fast import ItemIndex


@pytest.fixture(params=["float32", "int8"])
def scan(request):
    return request.param


ITEMS = np.ones((100, 4), np.float32)
QUERIES = np.ones((2, 4), np.float32)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_an_updated_index_is_like_a_new_one(scan, precision, rng):
    items, bias, queries = normal(rng, 700, 20), normal(rng, 700), normal(rng, 9, 20)
    options = {"precision": precision, "scan": scan}
    index = ItemIndex(items, bias=bias, **options)
    ids = rng.permutation(700)[:90]
    items[ids] = normal(rng, 90, 20) * 5
    bias[ids] = normal(rng, 90)
    index.update(ids, items[ids], bias=bias[ids])
    fresh = ItemIndex(items, bias=bias, **options)
    same(index.topk(queries, 40), fresh.topk(queries, 40))
    np.testing.assert_array_equal(index.rank_of(queries, ids[:9]), fresh.rank_of(queries, ids[:9]))
    items[ids] *= -1
    index.update(ids, items[ids])  # keeps the bias
    fresh = ItemIndex(items, bias=bias, **options)
    same(index.topk(queries, 700), fresh.topk(queries, 700))


def test_an_extended_index_is_like_a_new_one_through_all_its_growth(scan, rng):
    items, queries = normal(rng, 3000, 12), normal(rng, 5, 12)
    items *= np.exp(normal(rng, 3000, 1))
    index = ItemIndex(items[:10], scan=scan)
    begin, sizes = 10, [1, 53, 1, 64, 500, 3, 1000, 0, 200]
    for n in sizes:
        ids = index.extend(items[begin : begin + n])
        assert ids.tolist() == list(range(begin, begin + n))
        begin += n
        fresh = ItemIndex(items[:begin], scan=scan)
        assert (len(index), index.nbytes) == (begin, fresh.nbytes)
        same(index.topk(queries, 30), fresh.topk(queries, 30))
    everything = np.arange(begin)
    np.testing.assert_array_equal(index.rows(everything), items[:begin])
    same(
        index.topk(queries, 9, exclude=ragged([[begin - 1]] * 5)),
        fresh.topk(queries, 9, exclude=ragged([[begin - 1]] * 5)),
    )
    index.update(everything, items[:begin] * 2)
    same(index.topk(queries, 30), ItemIndex(items[:begin] * 2, scan=scan).topk(queries, 30))


def test_an_index_grows_from_nothing(scan, rng):
    index = ItemIndex(np.empty((0, 4), np.float32), bias=np.empty(0, np.float32), scan=scan)
    items, bias = normal(rng, 70, 4), normal(rng, 70)
    index.extend(items, bias=bias)
    queries = normal(rng, 3, 4)
    same(index.topk(queries, 70), ItemIndex(items, bias=bias, scan=scan).topk(queries, 70))


def test_values_that_are_not_finite_come_and_go(scan, rng):
    items, queries = normal(rng, 200, 8), normal(rng, 3, 8)
    index = ItemIndex(items, scan=scan)
    expected = index.topk(queries, 200)
    index.update(ints(7, 9), np.array([[np.nan] * 8, [np.inf] * 8], "f"))
    ids = index.topk(queries, 200)[1]
    assert not (ids == 7).any()
    index.update(ints(9, 7), items[[9, 7]])
    same(index.topk(queries, 200), expected)


def test_a_shard_grows_up_to_its_neighbour(scan, rng):
    items = normal(rng, 30, 4)
    [part] = shards(items, None, [(10, 25)], scan)
    assert part.extend(items[25:28]).tolist() == [25, 26, 27]
    with pytest.raises(ValueError, match="extend: 3 more items make 21; expected at most 20"):
        part.extend(items[:3])
    part.update(ints(27, 10), items[[1, 2]])
    np.testing.assert_array_equal(part.rows(ints(10, 27)), items[[2, 1]])
    assert len(part) == 18
    last = ItemIndex(items, id_offset=7, scan=scan)
    assert last.extend(items).tolist() == list(range(37, 67))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda i: i.update(ints(1), ITEMS[:2]),
            ValueError,
            r"ids has shape \(1,\); expected \(2,",
        ),
        (
            lambda i: i.update(ints(1, 100), ITEMS[:2]),
            ValueError,
            "ids holds 100 at index 1; .* 99",
        ),
        (lambda i: i.update(ints(-1), ITEMS[:1]), ValueError, "ids holds -1 at index 0"),
        (lambda i: i.update(ints(4, 2, 4), ITEMS[:3]), ValueError, "ids holds 4 more than once"),
        (lambda i: i.update([1.5], ITEMS[:1]), TypeError, "update: ids is float64"),
        (lambda i: i.update(ints(1), ITEMS[:1, :3]), ValueError, r"rows has shape .* \(m, 4\)"),
        (lambda i: i.update(ints(1), np.ones((1, 4))), TypeError, "update: rows is float64"),
        (lambda i: i.update(ints(1), ITEMS[:1], bias=ITEMS[0, :1]), ValueError, "index has none"),
        (
            lambda i: i.extend(ITEMS[0]),
            ValueError,
            r"extend: rows has shape \(4,\); expected \(m, 4",
        ),
        (
            lambda i: i.extend(ITEMS, bias=ITEMS[0]),
            ValueError,
            r"bias has shape \(4,\); .*\(100,\)",
        ),
        (lambda i: i.extend(ITEMS, bias=ITEMS[:, 0]), ValueError, "extend: bias is given; the ind"),
    ],
)
def test_bad_changes_change_nothing(scan, call, error, message):
    index = ItemIndex(ITEMS, scan=scan)
    expected = index.topk(QUERIES, 100)
    with pytest.raises(error, match=message):
        call(index)
    same(index.topk(QUERIES, 100), expected)


def test_an_index_with_a_bias_is_extended_with_one():
    index = ItemIndex(ITEMS, bias=ITEMS[:, 0])
    with pytest.raises(ValueError, match="extend: bias is missing"):
        index.extend(ITEMS)
    assert len(index) == 100


def in_threads(*loops):
    """Run functions until the last of them is done, the others as long as it runs."""
    done, errors = threading.Event(), []

    def repeat(loop):
        try:
            while not done.is_set():
                loop()
        except Exception as error:
            errors.append(error)
            done.set()

    threads = [threading.Thread(target=repeat, args=(loop,)) for loop in loops[:-1]]
    for thread in threads:
        thread.start()
    try:
        loops[-1]()
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert errors == []


def test_queries_see_an_update_whole(scan, rng):
    items, queries = normal(rng, 2000, 16), normal(rng, 3, 16)
    ids = rng.permutation(2000)[:300]
    versions = [normal(rng, 300, 16) * 2 for _ in range(2)]
    index = ItemIndex(items, scan=scan)
    answers = []
    for version in versions:
        index.update(ids, version)
        answers.append(index.topk(queries, 25))

    def ask():
        scores, found = index.topk(queries, 25)
        assert any(
            np.array_equal(scores, answer[0]) and np.array_equal(found, answer[1])
            for answer in answers
        )

    def change():
        for turn in range(200):
            index.update(ids, versions[turn % 2])

    in_threads(ask, ask, change)


def test_queries_see_an_extension_whole(scan):
    def rows(begin, end):
        return np.repeat(np.arange(begin, end, dtype=np.float32)[:, None], 8, axis=1)

    index = ItemIndex(rows(0, 300), scan=scan)
    query = np.ones(8, np.float32)

    def ask():
        scores, ids = index.topk(query, 3)
        assert ids[0] % 37 == (300 - 1) % 37
        assert (ids == ids[0] - np.arange(3)).all()
        assert (scores == 8 * ids).all()

    def change():
        for begin in range(300, 300 + 37 * 100, 37):
            index.extend(rows(begin, begin + 37))

    in_threads(ask, ask, change)
    assert len(index) == 300 + 37 * 100
