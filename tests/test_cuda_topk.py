"""Exact top-k by the CUDA kernels, on emulated threads: bit for bit what the CPU answers."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from cuda_kernels import emulated
from item_cases import normal, ragged, same
from seqrec_fast.nn import _topk_cuda
from test_topk import HOSTILE


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def new_workspace(queries, items, k, slack=0):
    module = importlib.import_module("seqrec_fast._cuda_emulated")
    room = module.topk_workspace(len(queries), *items.shape, k) + slack
    return np.full(room, -7, np.int64)


def topk(queries, items, k, bias=None, exclude=None, allow=None, workspace=None):
    workspace = new_workspace(queries, items, k) if workspace is None else workspace
    scores = np.full((len(queries), k), np.nan, np.float32)
    ids = np.full((len(queries), k), -7, np.int64)
    values, offsets = (None, None) if exclude is None else exclude
    mask = None if allow is None else np.ascontiguousarray(allow).view(np.uint8)
    emulated("topk", np.float32, queries, items, bias, k, values, offsets, mask, workspace, scores,
             ids)  # fmt: skip
    return scores, ids


def check(queries, items, k, bias=None, exclude=None, allow=None, workspace=None):
    found = topk(queries, items, k, bias, exclude, allow, workspace)
    expected = sf.topk(queries, items, k, bias=bias, exclude=exclude, allow=allow)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.tobytes() == theirs.tobytes()
    return found


@pytest.mark.parametrize("case", HOSTILE)
def test_equals_the_cpu(case, rng):
    check(*HOSTILE[case](lambda *shape: normal(rng, *shape)))


@pytest.mark.parametrize("n_queries", [1, 2, 3, 5, 8, 9, 17, 33, 65])
@pytest.mark.parametrize("dim", [1, 30, 32, 68])
def test_all_tiles(n_queries, dim, rng):
    check(normal(rng, n_queries, dim), normal(rng, 700, dim), 7, normal(rng, 700))


@pytest.mark.parametrize("n_queries", [1, 20])
@pytest.mark.parametrize("k", [1, 2, 100, 300, 1024, 1025, 2600])
def test_any_k(n_queries, k, rng):
    check(normal(rng, n_queries, 5), normal(rng, 2500, 5), k)


@pytest.mark.parametrize("n_items", [0, 1, 127, 128, 129, 255, 256, 257])
def test_any_number_of_items(n_items, rng):
    for n_queries in (0, 1, 11):
        check(normal(rng, n_queries, 3), normal(rng, n_items, 3), 4)


def test_ties_nan_and_infinity(rng):
    items = rng.integers(-2, 3, (3000, 4)).astype(np.float32)
    queries = rng.integers(-2, 3, (12, 4)).astype(np.float32)
    bias = rng.choice(np.array([-0.0, 0.0, 1.0, np.nan, np.inf, -np.inf], np.float32), 3000)
    items[5] = np.nan
    queries[3, 1] = np.nan
    for n in (2, 12):
        check(queries[:n], items, 60)
        check(queries[:n], items, 60, bias)
    check(queries * 0, items * 0, 300)
    check(queries[:1] * 0, items * 0, 300)


def test_ascending_scores_where_every_item_is_a_candidate():
    items = np.arange(4000, dtype=np.float32)[:, None]
    for n in (1, 9):
        check(np.ones((n, 1), np.float32), items, 20)
        check(np.ones((n, 1), np.float32), items[::-1].copy(), 20)


@pytest.mark.parametrize("n_queries", [3, 20])
def test_filters(n_queries, rng):
    queries, items = normal(rng, n_queries, 8), normal(rng, 600, 8)
    lists = [np.sort(rng.integers(0, 600, n)) for n in rng.integers(0, 300, n_queries)]
    lists[0], lists[1] = np.arange(600), np.empty(0, np.int64)
    masks = rng.random((n_queries, 600)) < 0.3
    check(queries, items, 30, exclude=ragged(lists))
    check(queries, items, 30, allow=masks[0])
    check(queries, items, 30, exclude=ragged(lists), allow=masks)


def test_exclusions_that_are_out_of_range_are_passed_over(rng):
    queries, items = normal(rng, 2, 8), normal(rng, 50, 8)
    plain = topk(queries, items, 5)
    values = np.array([-5, 50, 2**40], np.int64)
    same(topk(queries, items, 5, exclude=(values, np.array([-9, 3, 100]))), plain)


def test_the_largest_batches_are_cut(rng):
    check(normal(rng, 600, 2), normal(rng, 8, 2), 3, exclude=ragged([[1]] * 600))


def test_errors_name_what_came(rng):
    queries, items = normal(rng, 2, 8), normal(rng, 50, 8)
    with pytest.raises(ValueError, match="topk: k is 0; expected at least 1"):
        topk(queries, items, 0)
    with pytest.raises(ValueError, match=r"queries has shape \(2, 7\); expected \(2, 8\)"):
        topk(queries[:, :7].copy(), items, 3)
    with pytest.raises(ValueError, match=r"workspace has [0-9]+ entries; expected"):
        topk(queries, items, 3, workspace=new_workspace(queries, items, 3, slack=-1))
    with pytest.raises(TypeError, match="bias is float64; expected float32"):
        topk(queries, items, 3, np.zeros(50))
    shifted = np.empty(len(new_workspace(queries, items, 3)) + 2, np.int64)
    shifted = shifted[1 if shifted.ctypes.data % 16 == 0 else 0 :]
    with pytest.raises(ValueError, match="workspace is not aligned to 16 bytes"):
        topk(queries, items, 3, workspace=shifted)


@pytest.mark.usefixtures("emulated_kernels")
def test_the_call_on_tensors(rng):
    queries, items, bias = normal(rng, 3, 8), normal(rng, 90, 8), normal(rng, 90)
    values, offsets = ragged([[80, 3, 3, 7], [], rng.permutation(90)])
    arguments = [torch.from_numpy(a) for a in (bias, values, offsets)]
    tensors = _topk_cuda.topk_cuda(
        torch.from_numpy(queries), torch.from_numpy(items), 6, *arguments
    )
    expected = sf.topk(queries, items, 6, bias=bias, exclude=(values, offsets))
    same((t.numpy() for t in tensors), expected)
    mask = rng.random((3, 90)) < 0.2
    for allow in (mask, mask[1]):
        tensors = _topk_cuda.topk_cuda(
            torch.from_numpy(queries), torch.from_numpy(items), 6, *arguments,
            torch.from_numpy(allow),
        )  # fmt: skip
        expected = sf.topk(queries, items, 6, bias=bias, exclude=(values, offsets), allow=allow)
        same((t.numpy() for t in tensors), expected)
    with pytest.raises(TypeError, match=r"allow is torch.float32; expected bool"):
        _topk_cuda.topk_cuda(
            torch.from_numpy(queries), torch.from_numpy(items), 6, None, None, None, torch.ones(90)
        )
    one = _topk_cuda.topk_cuda(
        torch.from_numpy(queries[0]), torch.from_numpy(items), 6, None, None, None
    )
    same((t.numpy() for t in one), sf.topk(queries[0], items, 6))
    with pytest.raises(ValueError, match=r"queries has shape \(8, 3\)"):
        _topk_cuda.topk_cuda(
            torch.from_numpy(queries.T), torch.from_numpy(items), 6, None, None, None
        )
