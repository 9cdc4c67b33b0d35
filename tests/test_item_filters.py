"""Item indices: filters, k per query, slices of a catalogue."""

from __future__ import annotations

import numpy as np
import pytest

import seqrec_fast as sf
from item_cases import best_of, ints, normal, ragged, same, shards
from seqrec_fast import ItemIndex


@pytest.fixture(params=["float32", "int8"])
def scan(request):
    return request.param


def allow_forms(masks):
    """What means the same as the first mask for all queries, and as all masks."""
    first = masks[0]
    ids = np.flatnonzero(first)
    rng = np.random.default_rng(0)
    shuffled = rng.permutation(np.concatenate([ids, ids[: len(ids) // 2]]))
    lists = [rng.permutation(np.flatnonzero(mask)) for mask in masks]
    shared = {"mask": first, "list": ids, "shuffled list": shuffled}
    return shared, {"masks": masks, "lists": ragged(lists)}


@pytest.mark.parametrize("share", [0.0, 0.003, 0.2, 1.0])
@pytest.mark.parametrize("n_queries", [1, 5, 70])
def test_allow_in_every_form(scan, share, n_queries, rng):
    items, queries = normal(rng, 1003, 24), normal(rng, n_queries, 24)
    index = ItemIndex(items, scan=scan)
    masks = rng.random((n_queries, 1003)) < share
    excluded = ragged([rng.integers(0, 1003, 30) for _ in range(n_queries)])
    shared, own = allow_forms(masks)
    for forms, sets in ((shared, masks[:1].repeat(n_queries, axis=0)), (own, masks)):
        allowed = [np.flatnonzero(mask) for mask in sets]
        rows = np.split(excluded[0], excluded[1][1:-1])
        left = [np.setdiff1d(a, e) for a, e in zip(allowed, rows, strict=True)]
        for name, allow in forms.items():
            for k in (1, 30):
                expected = best_of(index, queries, k, allowed)
                np.testing.assert_equal(index.topk(queries, k, allow=allow), expected, name)
            expected = best_of(index, queries, 9, left)
            got = index.topk(queries, 9, allow=allow, exclude=excluded)
            np.testing.assert_equal(got, expected, name)


def test_allow_for_one_query_and_of_strided_masks(scan, rng):
    index, query = ItemIndex(normal(rng, 300, 8), scan=scan), normal(rng, 8)
    mask = rng.random(300) < 0.3
    expected = best_of(index, query[None], 7, [np.flatnonzero(mask)])
    wide = np.repeat(mask, 2)[None]
    for allow in (mask, mask[None], wide[:, ::2], np.flatnonzero(mask)[::-1], mask.tolist()):
        same(index.topk(query, 7, allow=allow), (expected[0][0], expected[1][0]))


def test_masks_of_queries_are_turned_into_bits_some_at_a_time(scan, rng, monkeypatch):
    index, queries = ItemIndex(normal(rng, 900, 8), scan=scan), normal(rng, 21, 8)
    masks = rng.random((21, 900)) < 0.5
    exclude = ragged([rng.integers(0, 900, n) for n in rng.integers(0, 40, 21)])
    expected = index.topk(queries, 9, allow=masks, exclude=exclude)
    monkeypatch.setattr("seqrec_fast._item_queries._MASK_BYTES", 500)
    monkeypatch.setattr("seqrec_fast._item_queries._ID_PIECE", 50)
    same(index.topk(queries, 9, allow=masks, exclude=exclude), expected)
    ids = np.flatnonzero(masks[0])
    same(index.topk(queries, 9, allow=ids), index.topk(queries, 9, allow=masks[0]))
    values, offsets = exclude
    with pytest.raises(ValueError, match="exclude have 21 entries; expected 22 for 21 queries"):
        index.topk(queries, 9, allow=masks, exclude=(values, offsets[:-1]))
    with pytest.raises(ValueError, match="exclude do not rise from 0 to"):
        index.topk(queries, 9, allow=masks, exclude=(values, offsets[::-1]))
    with pytest.raises(ValueError, match="allow holds the id 900 at index 100; expected ids from"):
        index.topk(queries, 9, allow=np.arange(800, 902))


def test_one_call_takes_an_allow(rng):
    items, queries = normal(rng, 100, 8), normal(rng, 3, 8)
    mask = rng.random((3, 100)) < 0.2
    same(sf.topk(queries, items, 9, allow=mask), ItemIndex(items).topk(queries, 9, allow=mask))


ITEMS = np.ones((100, 4), np.float32)
QUERIES = np.ones((2, 4), np.float32)


@pytest.mark.parametrize(
    ("allow", "error", "message"),
    [
        (np.ones(99, np.bool_), ValueError, r"allow has shape \(99,\); .* B = 2,.* N = 100$"),
        (np.ones((3, 100), np.bool_), ValueError, r"allow has shape \(3, 100\)"),
        (np.ones((2, 1, 100), np.bool_), ValueError, r"allow has shape \(2, 1, 100\)"),
        (np.ones(100), TypeError, "allow is float64 of shape"),
        (np.ones((2, 100), np.int64), TypeError, "allow is int64 of shape .* expected bool, a vec"),
        (np.ones(3, np.int32), TypeError, "allow is int32"),
        (ints(5, 100), ValueError, "allow holds the id 100 at index 1; expected ids from 0 to 99"),
        (ints(*range(50), -1), ValueError, "allow holds the id -1 at index 50"),
        ((ints(5, -7), ints(0, 1, 2)), ValueError, "allow holds the id -7 at index 1"),
        ((ints(5), ints(0, 1)), ValueError, "the offsets of allow have 2 entries"),
        ((ints(5), ints(0, 2, 1)), ValueError, "the offsets of allow decrease from 2 to 1"),
        ((ints(5), ints(0, 1), ints(0)), TypeError, "allow is tuple; expected a tuple"),
        ((np.ones(1), ints(0, 1, 1)), TypeError, "allow values is float64"),
    ],
)
def test_bad_allow(scan, allow, error, message):
    with pytest.raises(error, match=message):
        ItemIndex(ITEMS, scan=scan).topk(QUERIES, 3, allow=allow)


def test_k_per_query(scan, rng):
    index, queries = ItemIndex(normal(rng, 200, 8), scan=scan), normal(rng, 5, 8)
    scores, ids = index.topk(queries, 6)
    wanted = np.array([6, 0, 1, 3, 5], np.int32)
    got_scores, got_ids = index.topk(queries, 6, k_per_query=wanted)
    for row, n in enumerate(wanted):
        same((got_scores[row, :n], got_ids[row, :n]), (scores[row, :n], ids[row, :n]))
        assert (got_ids[row, n:] == -1).all()
        assert (got_scores[row, n:] == -np.inf).all()
    assert (index.topk(queries[3], 6, k_per_query=2)[1] == [*ids[3, :2], -1, -1, -1, -1]).all()


@pytest.mark.parametrize(
    ("wanted", "error", "message"),
    [
        ([1, 7], ValueError, "k_per_query goes from 1 to 7; expected 0 to k = 6"),
        ([-1, 2], ValueError, "k_per_query goes from -1 to 2"),
        ([1.0, 2.0], TypeError, "k_per_query is float64; expected integers"),
        ([1], ValueError, r"k_per_query has shape \(1,\); expected \(2,\)"),
        (3, ValueError, r"k_per_query has shape \(\)"),
    ],
)
def test_bad_k_per_query(wanted, error, message):
    with pytest.raises(error, match=message):
        ItemIndex(ITEMS).topk(QUERIES, 6, k_per_query=wanted)


def test_shards_answer_like_the_whole(scan, rng):
    items, bias, queries = normal(rng, 1000, 16), normal(rng, 1000), normal(rng, 9, 16)
    items[::7] = items[0]
    whole = ItemIndex(items, bias=bias, scan=scan)
    parts = shards(items, bias, [(600, 1000), (0, 250), (200, 600), (600, 600)], scan)
    exclude = ragged([rng.integers(0, 1000, 100) for _ in queries])
    mask = rng.random((9, 1000)) < 0.5
    for k in (1, 20, 700, 1100):
        for allow in (None, mask, mask[0], np.flatnonzero(mask[0])[:20], np.flatnonzero(mask[0])):
            options = {"exclude": exclude, "allow": allow}
            answers = [part.topk(queries, k, **options) for part in parts]
            same(sf.merge_topk(answers, k), whole.topk(queries, k, **options))
    local = parts[1].topk(queries, 9, allow=mask[:, :250])
    same(parts[1].topk(queries, 9, allow=mask), local)


def test_ranks_and_rows_of_a_shard_go_by_global_ids(scan, rng):
    items, queries = normal(rng, 300, 8), normal(rng, 3, 8)
    [part] = shards(items, None, [(100, 200)], scan)
    alone = ItemIndex(items[100:200], scan=scan)
    wanted = np.array([100, 150, 199])
    np.testing.assert_array_equal(
        part.rank_of(queries, wanted), alone.rank_of(queries, wanted - 100)
    )
    np.testing.assert_array_equal(part.rows(wanted[:, None]), items[wanted[:, None]])
    for call in (lambda: part.rank_of(queries, ints(100, 99, 100)), lambda: part.rows(ints(200))):
        with pytest.raises(ValueError, match=r"expected (ids from )?100 to 199"):
            call()
    with pytest.raises(ValueError, match=r"exclude holds the id 300 .* 0 to 299"):
        part.topk(queries, 3, exclude=(ints(300), ints(0, 1, 1, 1)))
    with pytest.raises(ValueError, match=r"allow has shape \(99,\).* N = 100 or 300"):
        part.topk(queries, 3, allow=np.ones(99, np.bool_))


def test_merging_keeps_an_id_once():
    one = (np.array([[9, 5, 1]], "f"), np.array([[4, 2, 7]]))
    two = (np.array([[9, 5, 3, -np.inf]], "f"), np.array([[1, 2, 7, -1]]))
    scores, ids = sf.merge_topk([one, two], 6)
    assert ids.tolist() == [[1, 4, 2, 7, -1, -1]]
    assert scores.tolist() == [[9, 9, 5, 3, -np.inf, -np.inf]]
    assert (scores.dtype, ids.dtype) == (np.float32, np.int64)
    same(sf.merge_topk([two, one], 2), (scores[:, :2], ids[:, :2]))
    same(sf.merge_topk([(a[0], b[0]) for a, b in (one, two)], 6), (scores[0], ids[0]))


def test_merging_scores_of_minus_infinity_and_nothing():
    low = (np.array([-np.inf, -np.inf], "f"), np.array([3, -1]))
    nothing = (np.empty(0, "f"), np.empty(0, np.int64))
    _, ids = sf.merge_topk([nothing, low, low], 2)
    assert ids.tolist() == [3, -1]
    assert sf.merge_topk([nothing], 2)[1].tolist() == [-1, -1]
    no_query = (np.empty((0, 3), "f"), np.empty((0, 3), np.int64))
    assert sf.merge_topk([no_query], 2)[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("parts", "k", "error", "message"),
    [
        ([], 1, ValueError, "parts is empty"),
        ([(np.zeros((1, 2), "f"), np.zeros((1, 2), int))], 0, ValueError, "merge_topk: k is 0"),
        ([(np.zeros((1, 2)), np.zeros((1, 2), int))], 1, TypeError, "scores of part 0 is float64"),
        ([(np.zeros((1, 2), "f"), np.zeros((1, 3), int))], 1, ValueError, r"part 0 has .*\(1, k\)"),
        (
            [(np.zeros((n, 2), "f"), np.zeros((n, 2), int)) for n in (1, 2)],
            1,
            ValueError,
            r"part 1 has scores of shape \(2, 2\), ids \(2, 2\); expected both \(1, k\)",
        ),
    ],
)
def test_bad_parts(parts, k, error, message):
    with pytest.raises(error, match=message):
        sf.merge_topk(parts, k)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "precision is 'int8'; expected 'float32' or 'bfloat16'"),
        ({"scan": "bfloat16"}, "scan is 'bfloat16'; expected 'auto', 'float32' or 'int8'"),
        ({"id_offset": -1}, "id_offset is -1; expected 0 or more"),
        ({"id_offset": 5, "n_ids": 104}, "n_ids is 104; expected at least 105"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=f"ItemIndex: {message}"):
        ItemIndex(ITEMS, **options)


def test_codes_of_very_long_vectors_are_refused():
    with pytest.raises(ValueError, match="50001 terms; expected at most 50000 for scan='int8'"):
        ItemIndex(np.zeros((2, 50_001), "f"), scan="int8")
