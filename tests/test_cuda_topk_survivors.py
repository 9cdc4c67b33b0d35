"""Top-k of many queries by the CUDA kernels, on emulated threads: tensor cores rule items out."""

from __future__ import annotations

import numpy as np
import pytest

from item_cases import normal, ragged
from test_cuda_topk import check, new_workspace


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def asked_again(queries, items, k, **more):
    """Check the answer; return the queries that were scored without tensor cores in the end."""
    workspace = new_workspace(queries, items, k)
    check(queries, items, k, workspace=workspace, **more)
    # The last areas of the workspace: how many, which, and their rows.
    rows, numbers = -(-queries.size * 4 // 16) * 2, -(-(len(queries) + 1) // 2) * 2
    area = workspace[len(workspace) - rows - numbers :]
    return sorted(area[1 : 1 + area[0]])


@pytest.mark.parametrize(
    ("n_queries", "n_items", "dim", "k"),
    [(128, 1024, 1, 1), (129, 1100, 33, 3), (150, 1500, 64, 8), (128, 1400, 70, 16)],
)
def test_equals_the_cpu(n_queries, n_items, dim, k, rng):
    queries, items, bias = (
        normal(rng, n_queries, dim),
        normal(rng, n_items, dim),
        normal(rng, n_items),
    )
    assert asked_again(queries, items, k) == []
    assert asked_again(queries, items, k, bias=bias) == []


def test_steps_that_grow(rng):
    assert asked_again(normal(rng, 128, 8), normal(rng, 8300, 8), 3) == []


def exact_in_bfloat16(values):
    return (values.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


@pytest.mark.parametrize("exact", ["queries", "items"])
@pytest.mark.parametrize("noise", [1e-2, 3e-2])
def test_what_rounding_takes_is_in_the_bounds(exact, noise, rng):
    queries, items = np.abs(normal(rng, 128, 20)), np.abs(normal(rng, 1, 20))
    items = items + normal(rng, 1300, 20) * np.float32(noise)
    if exact == "queries":
        queries = exact_in_bfloat16(queries)
    else:
        items = exact_in_bfloat16(items)
    check(queries, items, 9)


def test_scores_that_only_float32_tells_apart(rng):
    queries, items = np.abs(normal(rng, 128, 20)), np.abs(normal(rng, 1, 20))
    # in bfloat16 all are the same, and too many
    nearer = items + normal(rng, 8300, 20) * np.float32(1e-6)
    assert asked_again(queries, nearer, 2) == list(range(128))


def test_ties(rng):
    queries = rng.integers(-2, 3, (128, 4)).astype(np.float32)
    items = rng.integers(-2, 3, (1500, 4)).astype(np.float32)
    check(queries, items, 8)
    check(queries, items, 8, rng.integers(-1, 2, 1500).astype(np.float32))
    many = np.ones((8192, 2), np.float32)
    assert asked_again(queries[:, :2].copy(), many, 2) == list(range(128))


@pytest.mark.parametrize("order", [1, -1])
def test_items_in_the_order_of_their_scores(order, rng):
    items = np.sort(normal(rng, 1700))[::order, None].copy()
    assert asked_again(np.abs(normal(rng, 128, 1)), items, 5) == []


def test_items_without_a_bound(rng):
    queries, items = normal(rng, 128, 12), normal(rng, 1500, 12)
    items[[7, 300, 301]] *= np.float32(1e25)
    items[8] *= np.float32(1e18)
    items[9] *= np.float32(1e-42)
    items[700, 3], items[701, 5], items[1001] = np.inf, -np.inf, np.nan
    items[1100:1400:3, 0] = np.nan
    bias = normal(rng, 1500)
    bias[[11, 22, 33, 44, 55]] = np.inf, -np.inf, np.nan, 3e38, -3e38
    bias[56:1500:5] = -np.inf
    assert asked_again(queries, items, 6) == []
    assert asked_again(queries, items, 6, bias=bias) == []


def test_queries_without_a_bound(rng):
    queries, items = normal(rng, 130, 6), normal(rng, 1200, 6)
    queries[3] = np.nan
    queries[50, 2] = np.inf
    queries[129] *= np.float32(1e30)
    queries[7] *= np.float32(1e15)
    queries[8] *= np.float32(1e-15)
    assert asked_again(queries, items, 4) == [3, 50, 129]
    assert asked_again(queries, items, 4, bias=normal(rng, 1200)) == [3, 50, 129]


@pytest.mark.parametrize("scale", [1e-40, 1e-22, 1e-16, 1e16, 1e19])
def test_any_scale(scale, rng):
    queries, items = normal(rng, 128, 7), normal(rng, 1100, 7)
    check(queries * np.float32(scale), items * np.float32(scale), 3)
    check(queries, items * np.float32(scale), 3, normal(rng, 1100) * np.float32(scale))


def test_a_part_of_the_queries_has_too_many(rng):
    queries, items = normal(rng, 128, 5), normal(rng, 8200, 5)
    queries[10:90] = 0
    assert asked_again(queries, items, 2) == list(range(10, 90))


def test_filters(rng):
    queries, items = normal(rng, 128, 8), normal(rng, 1600, 8)
    lists = [np.sort(rng.integers(0, 1600, n)) for n in rng.integers(0, 300, 128)]
    lists[0], lists[1] = np.arange(1600), np.empty(0, np.int64)
    masks = rng.random((128, 1600)) < 0.3
    masks[5] = False
    masks[6, :200], masks[6, 200:] = True, False
    masks[7] = np.arange(1600) == 1111
    check(queries, items, 10, exclude=ragged(lists))
    check(queries, items, 10, allow=masks[0])
    check(queries, items, 10, exclude=ragged(lists), allow=masks)


def test_slices_of_queries_take_their_own_way(rng):
    check(normal(rng, 2 * 256 + 3, 5), normal(rng, 1024, 5), 2)
