"""Item indices: scans, precision, ranks, statistics."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import seqrec_fast as sf
from item_cases import ints, normal, ragged, same
from seqrec_fast import ItemIndex, metrics, reference


@pytest.fixture(params=["float32", "int8"])
def scan(request):
    return request.param


ITEMS = np.ones((100, 4), np.float32)
QUERIES = np.ones((2, 4), np.float32)


CATALOGUES = {
    "normal": lambda f: (f(1500, 64), None),
    "odd dim": lambda f: (f(700, 50), None),
    "wide": lambda f: (f(300, 300), None),
    "bias of wide range": lambda f: (f(1500, 24), f(1500) * np.float32(10) ** (f(1500) * 3)),
    "bias that hides half": lambda f: (f(500, 24), np.where(f(500) < 0, -np.inf, f(500))),
    "bias that is not finite": lambda f: (f(500, 24), np.log(np.floor(f(500) * 3)) * f(500)),
    "heavy norms": lambda f: (f(1500, 32) * np.exp(2 * f(1500, 1)), f(1500)),
    "outlier": lambda f: (f(900, 32) + 1e4 * np.eye(32, dtype="f")[5], None),
    "largest codes": lambda f: (
        np.repeat(np.sign(f(14, 64) + np.arange(14)[:, None] - 6), 50, 0),
        f(700),
    ),
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
    queries[30:32] = [[1], [-1]]
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


@pytest.mark.parametrize("with_bias", [False, True])
def test_few_queries_read_the_upper_halves_of_the_codes_of_a_large_catalogue(with_bias, rng):
    items, queries = normal(rng, 140_000, 61), normal(rng, 3, 61)
    bias = normal(rng, 140_000) if with_bias else None
    index = ItemIndex(items, bias=bias, scan="int8")
    expected = ItemIndex(items, bias=bias, scan="float32").topk(queries, 10)
    index.topk(np.tile(queries, (3, 1)), 10)
    both_halves = index.stats()["survivors_per_query"]
    for backend in sf.supported_backends("int8"):
        if backend == "amx_emulated":  # takes seconds
            continue
        with sf.force_backend("int8", backend):
            same(index.topk(queries, 10), expected)
            same(index.topk(queries[:1], 10), [part[:1] for part in expected])
    assert index.stats()["survivors_per_query"] > 5 * both_halves


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
