"""An index beyond plain top-k: filters, ranks, shards, changes, files, precision, threads."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

import seqrec_fast as sf
from seqrec_fast import ItemIndex, metrics, reference
from seqrec_fast._index_file import IndexFile, file_header
from seqrec_fast._item_arrays import Layout


@pytest.fixture(params=["float32", "int8"])
def scan(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "items.safetensors"


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def ragged(lists):
    offsets = np.cumsum([0, *map(len, lists)])
    return np.concatenate([np.asarray(row, np.int64) for row in lists]), offsets


def best_of(index, queries, k, allowed):
    """The answer if items outside `allowed`, a set for each query, are excluded."""
    everything = np.arange(len(index))
    return index.topk(queries, k, exclude=ragged([np.setdiff1d(everything, a) for a in allowed]))


# --- Scans and precision --------------------------------------------------------------------------

CATALOGUES = {
    "normal": lambda f: (f(1500, 64), None),
    "odd dim": lambda f: (f(700, 50), None),
    "wide": lambda f: (f(300, 300), None),
    "bias of wide range": lambda f: (f(1500, 24), f(1500) * np.float32(10) ** (f(1500) * 3)),
    "bias that hides half": lambda f: (f(500, 24), np.where(f(500) < 0, -np.inf, f(500))),
    "bias that is not finite": lambda f: (f(500, 24), np.log(np.floor(f(500) * 3)) * f(500)),
    "heavy norms": lambda f: (f(1500, 32) * np.exp(2 * f(1500, 1)), f(1500)),
    "outlier": lambda f: (f(900, 32) + 1e4 * np.eye(32, dtype="f")[5], None),
    "denormal": lambda f: (f(500, 16) * np.float32(1e-40), f(500) * np.float32(1e-41)),
    "huge": lambda f: (f(500, 16) * np.float32(1e37), None),
    "not finite": lambda f: (np.where(np.abs(f(900, 16)) > 3.2, np.inf * f(900, 16), 1), None),
}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("case", CATALOGUES)
def test_every_back_end_gives_the_bits_of_the_float32_scan(case, precision, rng):
    with np.errstate(all="ignore"):
        items, bias = CATALOGUES[case](lambda *shape: normal(rng, *shape))
    items = items.astype(np.float32)
    bias = None if bias is None else bias.astype(np.float32)
    queries = normal(rng, 70, items.shape[1])
    queries[3:20] = 0
    queries[20, 0] = np.inf
    options = {"bias": bias, "precision": precision}
    plain = ItemIndex(items, scan="float32", **options)
    coded = ItemIndex(items, scan="int8", **options)
    wanted = rng.integers(0, len(items), len(queries))
    for backend in sf.supported_backends("int8"):
        with sf.force_backend("int8", backend):
            for n in (1, 3, 70):
                expected = plain.topk(queries[:n], 20)
                same(coded.topk(queries[:n], 20), expected)
                same(coded.topk(queries[0], 400), plain.topk(queries[0], 400))
                ranks = plain.rank_of(queries[:n], wanted[:n])
                np.testing.assert_array_equal(coded.rank_of(queries[:n], wanted[:n]), ranks)


def bfloat16(values):
    """Rounded to nearest, ties to even."""
    bits = values.view(np.uint32).astype(np.uint64)
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16 << 16
    return bits.astype(np.uint32).view(np.float32)


def test_bfloat16_is_a_float32_index_of_rounded_items(scan, rng):
    items = normal(rng, 700, 33)
    items[0, :4] = 1 + 2.0**-8, 1 + 3 * 2.0**-8, 3.4e38, 1e-40
    bias, queries = normal(rng, 700), normal(rng, 9, 33)
    index = ItemIndex(items, bias=bias, precision="bfloat16", scan=scan)
    rounded = ItemIndex(bfloat16(items), bias=bias, scan=scan)
    np.testing.assert_array_equal(index.rows(np.arange(700)), bfloat16(items))
    same(index.topk(queries, 50), rounded.topk(queries, 50))
    assert (index.precision, rounded.precision) == ("bfloat16", "float32")
    assert rounded.nbytes - index.nbytes == 704 * 33 * 2
    index.update(np.arange(3), items[3:6])
    np.testing.assert_array_equal(index.rows(np.arange(3)), bfloat16(items[3:6]))


def fast_backend():
    return sf.active_backend("int8") not in ("highway", "amx_emulated")


@pytest.mark.parametrize(
    ("items", "scan"),
    [
        (lambda f: f(2000, 32), "int8"),
        (lambda f: f(2000, 32) * np.exp(2 * f(2000, 1)), "int8"),
        (lambda f: f(255, 32), "float32"),
        (lambda f: f(2000, 7), "float32"),
        (lambda f: f(2000, 32) + 1e4 * np.eye(32, dtype="f")[5], "float32"),
        (lambda f: np.ones((2000, 32), "f"), "float32"),
        (lambda f: f(300, 50_001), "float32"),
    ],
    ids=["normal", "heavy norms", "few", "short", "all alike but in little", "equal", "long"],
)
def test_auto_takes_codes_where_they_help(items, scan, rng):
    index = ItemIndex(items(lambda *shape: normal(rng, *shape)).astype(np.float32))
    assert index.scan == (scan if fast_backend() else "float32")
    assert repr(index) == (
        f"ItemIndex({len(index)} items, dim={index.dim}, precision='float32', scan={index.scan!r})"
    )


def test_auto_takes_no_codes_where_they_are_slow(rng):
    items = normal(rng, 2000, 32)
    for backend in {"highway", "amx_emulated"} & set(sf.supported_backends("int8")):
        with sf.force_backend("int8", backend):
            assert ItemIndex(items).scan == "float32"
            assert ItemIndex(items, scan="int8").scan == "int8"


def test_hidden_items_do_not_widen_the_bounds_of_others(rng):
    items, queries = normal(rng, 20000, 32), normal(rng, 8, 32)
    bias = np.zeros(20000, np.float32)
    index = ItemIndex(items, bias=bias, scan="int8")
    index.topk(queries, 20)
    bias[::50], items[7::50] = -np.inf, np.nan
    hiding = ItemIndex(items, bias=bias, scan="int8")
    same(hiding.topk(queries, 20), ItemIndex(items, bias=bias, scan="float32").topk(queries, 20))
    counts = [i.stats()["survivors_per_query"] for i in (index, hiding)]
    assert counts[1] < 1.2 * counts[0]


def test_nbytes_are_those_of_the_arrays(rng):
    items = normal(rng, 100, 10)
    # Two blocks of 64: vectors, ids both ways, bounds, and codes of 10 terms in 16 bytes.
    plain = 128 * (10 * 4 + 4 + 4) + 2 * 6 * 8
    assert ItemIndex(items, scan="float32").nbytes == plain
    assert ItemIndex(items, scan="int8", bias=items[:, 0]).nbytes == plain + 128 * (16 + 4)


# --- Filters --------------------------------------------------------------------------------------


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


def ints(*values):
    return np.array(values, np.int64)


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


# --- Ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_queries", [1, 7, 130])
def test_ranks_are_places_in_the_full_order(scan, n_queries, rng):
    items, queries = normal(rng, 1000, 24), normal(rng, n_queries, 24)
    items[::9] = items[0]
    items[5] = np.nan
    index = ItemIndex(items, bias=normal(rng, 1000) * 3, scan=scan)
    ids = index.topk(queries, 1000)[1]
    for place in (0, 1, 500, 998):
        ranks = index.rank_of(queries, ids[:, place].copy())
        assert ranks.dtype == np.int64
        assert (ranks == place + 1).all()
    assert (index.rank_of(queries, np.full(n_queries, 5)) == -1).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_items_of_a_bias_that_is_not_finite_among_ranks(value):
    bias = np.array([0, value, -1, 1, 0], np.float32)
    index = ItemIndex(np.zeros((5, 1), np.float32), bias=bias, scan="int8")
    expected = [1 + (value > 0) + 1] * 2
    for backend in sf.supported_backends("int8"):
        with sf.force_backend("int8", backend):
            for query in (np.zeros(1, np.float32), np.ones(1, np.float32)):
                ranks = index.rank_of(np.array([query, query]), ints(0, 0))
                assert ranks.tolist() == expected, backend


def test_ties_of_ranks(scan, rng):
    items = rng.integers(-2, 3, (600, 4)).astype(np.float32)
    queries = rng.integers(-2, 3, (40, 4)).astype(np.float32)
    wanted = rng.integers(0, 600, 40)
    index = ItemIndex(items, scan=scan)
    scores = queries @ items.T
    np.testing.assert_array_equal(
        index.rank_of(queries, wanted), reference.rank_of(queries, items, wanted)
    )
    for ties in metrics.TIE_MODES:
        ranks = index.rank_of(queries, wanted, ties=ties)
        assert ranks.dtype == np.float64
        np.testing.assert_array_equal(ranks, metrics.rank_of_targets(scores, wanted, ties))


def test_excluded_items_are_not_counted(scan, rng):
    items, queries = normal(rng, 500, 16), normal(rng, 30, 16)
    index = ItemIndex(items, scan=scan)
    lists = [rng.integers(0, 500, n) for n in rng.integers(0, 300, 30)]
    wanted = rng.integers(0, 500, 30)
    wanted[3] = lists[3][0]
    exclude = ragged(lists)
    order = index.topk(queries, 500, exclude=exclude)[1]
    found = order == wanted[:, None]
    expected = np.where(found.any(axis=1), found.argmax(axis=1) + 1, -1)
    assert expected[3] == -1
    np.testing.assert_array_equal(index.rank_of(queries, wanted, exclude=exclude), expected)
    ranks = index.rank_of(queries, wanted, exclude=exclude, ties="standard")
    assert np.isinf(ranks[3])
    np.testing.assert_array_equal(np.isinf(ranks), expected == -1)


def test_rank_for_one_query(rng):
    index, query = ItemIndex(normal(rng, 50, 8)), normal(rng, 8)
    ids = index.topk(query, 50)[1]
    assert index.rank_of(query, ids[17]) == 18
    assert index.rank_of(query, int(ids[0]), ties="median") == 1
    assert index.rank_of(np.empty((0, 8), np.float32), np.empty(0, np.int64)).shape == (0,)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((QUERIES, ints(1, 2)), {"ties": "mean"}, ValueError, "ties is 'mean'; expected one of or"),
        ((QUERIES, ints(1)), {}, ValueError, r"ids has shape \(1,\); expected \(2,\) because"),
        ((QUERIES, ints(1, 100)), {}, ValueError, r"ids\[1\] is 100; expected 0 to 99"),
        ((QUERIES, ints(-1, 1)), {}, ValueError, r"ids\[0\] is -1"),
        ((QUERIES, np.ones(2)), {}, TypeError, "ids is float64"),
        ((QUERIES[:, :3], ints(1, 2)), {}, ValueError, r"rank_of: queries has shape \(2, 3\)"),
        ((QUERIES, ints(1, 2)), {"exclude": ints(1)}, TypeError, "rank_of: exclude is ndarray"),
    ],
)
def test_bad_ranks(arguments, options, error, message):
    with pytest.raises(error, match=message):
        ItemIndex(ITEMS).rank_of(*arguments, **options)


# --- Shards ---------------------------------------------------------------------------------------


def shards(items, bias, bounds, scan):
    return [
        ItemIndex(
            items[begin:end],
            bias=None if bias is None else bias[begin:end],
            scan=scan,
            id_offset=begin,
            n_ids=len(items),
        )
        for begin, end in bounds
    ]


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
        ({"id_offset": -1}, "id_offset is -1; expected at least 0"),
        ({"id_offset": 5, "n_ids": 104}, "n_ids is 104; expected at least 105"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=f"ItemIndex: {message}"):
        ItemIndex(ITEMS, **options)


def test_codes_of_very_long_vectors_are_refused():
    with pytest.raises(ValueError, match="50001 terms; expected at most 50000 for scan='int8'"):
        ItemIndex(np.zeros((2, 50_001), "f"), scan="int8")


# --- Changes --------------------------------------------------------------------------------------


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


# --- Statistics and memory ------------------------------------------------------------------------


def test_statistics(rng):
    items = normal(rng, 20_000, 32)
    index = ItemIndex(items * np.exp(2 * normal(rng, 20_000, 1)), scan="int8")
    assert index.stats()["survivors_per_query"] == 0
    sf.set_num_threads(1)
    index.topk(normal(rng, 10, 32), 20)
    index.topk(normal(rng, 32), 20)
    stats = index.stats()
    assert stats["queries"] == 11
    assert 20 <= stats["survivors_per_query"] < 2000
    assert stats["blocks"] == 313
    assert stats["blocks_scanned"] + stats["blocks_skipped"] == 2 * 313
    assert stats["blocks_skipped"] > 0
    assert (stats["scan"], stats["backend"]) == ("int8", sf.active_backend("int8"))
    index.extend(items)  # grows, and keeps count
    assert index.stats()["queries"] == 11
    plain = ItemIndex(items[:100], scan="float32")
    plain.topk(items[:2], 3)
    assert (plain.stats()["queries"], plain.stats()["backend"]) == (2, sf.active_target())


@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="needs Linux")
def test_a_call_takes_little_memory():
    program = """
import numpy as np, seqrec_fast as sf

def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) / 1024

rng = np.random.default_rng(0)
items = rng.standard_normal((1_000_000, 16), dtype=np.float32)
queries = rng.standard_normal((512, 16), dtype=np.float32)
exclude = rng.integers(0, 1_000_000, 512 * 50), np.arange(0, 512 * 50 + 1, 50)
for scan in ("int8", "float32"):
    index = sf.ItemIndex(items, scan=scan)
    index.topk(queries[:1], 1)
    with open("/proc/self/clear_refs", "w") as stream:
        stream.write("5")  # the peak from here on
    before = memory("VmRSS:")
    index.topk(queries, 100, exclude=exclude)
    print(memory("VmHWM:") - before)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert max(map(float, run.stdout.split())) < 64


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_items", [0, 1, 64, 700])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_file_holds_the_index(scan, precision, n_items, path, rng):
    items, bias, queries = normal(rng, n_items, 11), normal(rng, n_items), normal(rng, 7, 11)
    options = {"precision": precision, "scan": scan, "id_offset": 40, "n_ids": 2000}
    for used in (None, bias):
        index = ItemIndex(items, bias=used, **options)
        index.save(path)
        opened = ItemIndex.open(path)
        assert repr(opened) == repr(index)
        assert (opened.nbytes, opened.dim, len(opened)) == (index.nbytes, 11, n_items)
        exclude = ragged([[1999, 41]] * 7)
        same(opened.topk(queries, 30, exclude=exclude), index.topk(queries, 30, exclude=exclude))
        ids = np.arange(40, 40 + n_items)
        np.testing.assert_array_equal(opened.rows(ids), index.rows(ids))
    assert os.listdir(path.parent) == [path.name]


def test_a_file_is_safetensors_with_aligned_arrays(scan, path, rng):
    items = normal(rng, 130, 10)
    ItemIndex(items, scan=scan, bias=items[:, 0]).save(path)
    with safe_open(path, framework="numpy") as stream:
        header = json.loads(stream.metadata()["seqrec_fast.index"])
        ids, vectors = stream.get_tensor("ids"), stream.get_tensor("vectors")
        assert ("high" in stream.keys()) == (scan == "int8")  # noqa: SIM118 - not a dict
    assert header["format_version"] == 1
    assert header["config"]["n_items"] == 130
    if scan == "int8":
        np.testing.assert_array_equal(vectors[:130], items[ids[:130]])
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    offsets = [e["data_offsets"] for n, e in json.loads(content[8:begin]).items() if n[0] != "_"]
    assert all((begin + offset[0]) % 64 == 0 for offset in offsets)


def test_a_grown_index_is_saved_without_its_room(scan, path, rng):
    items, queries = normal(rng, 300, 8), normal(rng, 3, 8)
    index = ItemIndex(items[:200], scan=scan)
    index.extend(items[200:260])
    index.extend(items[260:])
    index.save(path)
    assert path.stat().st_size < index.nbytes + 2000
    opened = ItemIndex.open(path)
    same(opened.topk(queries, 300), ItemIndex(items, scan=scan).topk(queries, 300))
    opened.save(path)  # over the file that it is mapped from
    same(opened.topk(queries, 9), ItemIndex.open(path).topk(queries, 9))


def test_a_mapped_index_cannot_be_changed(scan, path, rng):
    items = normal(rng, 70, 4)
    ItemIndex(items, scan=scan).save(path)
    opened = ItemIndex.open(path)
    for change in (lambda: opened.update(ints(1), items[:1]), lambda: opened.extend(items)):
        with pytest.raises(ValueError, match="is mapped from a file, which cannot change"):
            change()
    assert len(opened) == 70
    assert opened.stats()["blocks"] == 2


def test_a_file_larger_than_memory_opens_at_once(path):
    n_items, dim = 200_000_000, 64
    layout = Layout(dim, "float32", "float32", False)
    header = file_header(IndexFile(layout, n_items, 0, n_items, {}))
    entries = json.loads(header[8:])
    with open(path, "wb") as stream:
        stream.write(header)
        try:
            stream.truncate(len(header) + entries["bounds"]["data_offsets"][1])
        except OSError as error:
            pytest.skip(f"no room for a sparse file: {error}")
        stream.seek(len(header) + entries["ids"]["data_offsets"][0] + 4 * (n_items - 1))
        stream.write((n_items - 1).to_bytes(4, "little"))
        stream.seek(len(header) + entries["positions"]["data_offsets"][0] + 4 * (n_items - 1))
        stream.write((n_items - 1).to_bytes(4, "little"))
    start = time.perf_counter()
    index = ItemIndex.open(path)
    assert time.perf_counter() - start < 0.5
    _, ids = index.topk(np.ones((1, dim), np.float32), 3, allow=ints(0, n_items - 1))
    assert ids.tolist() == [[0, n_items - 1, -1]]
    assert index.nbytes > 50e9


def test_missing_file(path):
    with pytest.raises(FileNotFoundError, match=r"ItemIndex.open: no file .*items\.safetensors"):
        ItemIndex.open(path)
    with pytest.raises(IsADirectoryError):
        ItemIndex.open(path.parent)


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, -1])
def test_truncated_file(path, keep, rng):
    ItemIndex(normal(rng, 100, 8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else keep])
    with pytest.raises(ValueError, match=r"items\.safetensors is truncated"):
        ItemIndex.open(path)


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a pickle, say" * 50,
        b"a,b\n1,2\n",
        b"\x02" + bytes(7) + b"[]",
        b"\x02" + bytes(9),
    ],
)
def test_foreign_file(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"items\.safetensors is truncated, or no file that"):
        ItemIndex.open(path)


def test_safetensors_of_another_program(path):
    save_file({"w": np.zeros(3)}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"safetensors file without 'seqrec_fast\.index'"):
        ItemIndex.open(path)


def rewritten(path, change):
    """Change the header of a file in place of its writer."""
    content = path.read_bytes()
    begin = 8 + int.from_bytes(content[:8], "little")
    entries = json.loads(content[8:begin])
    header = json.loads(entries["__metadata__"]["seqrec_fast.index"])
    change(header, entries)
    entries["__metadata__"]["seqrec_fast.index"] = json.dumps(header)
    text = json.dumps(entries).encode()
    text += b" " * (-(8 + len(text)) % 64)
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[begin:])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, e: h.update(format_version=2), "format_version 2; this version .* up to 1, so"),
        (lambda h, e: h.update(format_version="1"), "format_version '1'; expected an integer"),
        (lambda h, e: h.update(config=[1]), r"config \[1\]; expected a dict"),
        (lambda h, e: h["config"].update(n_items=-1), "which is no catalogue's"),
        (lambda h, e: h["config"].update(n_items=2**40, n_ids=2**41), "which is no catalogue's"),
        (lambda h, e: h["config"].update(dim=0), "which is no catalogue's"),
        (lambda h, e: h["config"].update(scan="int4"), "which is no catalogue's"),
        (lambda h, e: h["config"].update(has_bias=1), "which is no catalogue's"),
        (lambda h, e: h["config"].update(n_ids=99), "which is no catalogue's"),
        (lambda h, e: h["config"].update(dim=9), "is damaged: its arrays do not fit"),
        (lambda h, e: h["config"].update(n_items=300, n_ids=300), "arrays do not fit"),
        (lambda h, e: e.pop("ids"), "arrays do not fit"),
        (lambda h, e: e["ids"].update(dtype="I64"), "arrays do not fit"),
        (lambda h, e: e["ids"].update(data_offsets=[0, 512]), "arrays do not fit"),
    ],
)
def test_damaged_header(path, change, message, rng):
    ItemIndex(normal(rng, 100, 8)).save(path)
    rewritten(path, change)
    with pytest.raises(ValueError, match=rf"items\.safetensors .*{message}"):
        ItemIndex.open(path)


def test_metadata_that_is_no_json(path):
    save_file({"w": np.zeros(3)}, path, metadata={"seqrec_fast.index": "no json"})
    with pytest.raises(ValueError, match=r"items\.safetensors has metadata that is no JSON"):
        ItemIndex.open(path)


def test_a_file_that_is_too_long_or_whose_ids_are_wrong(path, rng):
    ItemIndex(normal(rng, 100, 8)).save(path)
    content = path.read_bytes()
    path.write_bytes(content + b"x")
    with pytest.raises(ValueError, match=r"items\.safetensors is truncated or damaged: it has"):
        ItemIndex.open(path)
    begin = 8 + int.from_bytes(content[:8], "little")
    first = json.loads(content[8:begin])["ids"]["data_offsets"][0]
    path.write_bytes(content[: begin + first] + b"\xff" * 4 + content[begin + first + 4 :])
    with pytest.raises(ValueError, match=r"items\.safetensors is damaged: its ids are no permut"):
        ItemIndex.open(path)


def test_an_interrupted_save_leaves_the_old_file(path, monkeypatch, rng):
    ItemIndex(normal(rng, 100, 8)).save(path)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        ItemIndex(normal(rng, 200, 8)).save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_disk_that_is_full_half_way(path):
    program = f"""
import resource, signal
import numpy as np, seqrec_fast as sf
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
try:
    sf.ItemIndex(np.ones((5000, 8), np.float32)).save({os.fspath(path)!r})
except OSError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "File too large" in run.stdout, run.stderr
    assert os.listdir(path.parent) == []
