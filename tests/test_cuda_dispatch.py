"""The CUDA kernels of dispatch, on emulated threads, against those of the CPU."""

from __future__ import annotations

import importlib

import numpy as np
import pytest
import torch

import seqrec_fast as sf
from cuda_kernels import emulated, on_cpu
from dispatch_cases import CASES, case, choices, offsets_of
from seqrec_fast.nn import _dispatch_ops

# Tiles are of 256 choices; more than 1536 experts are counted in global memory.
LARGE = [
    ([256, 0, 257, 1, 600], 4, 1),
    ([700, 3, 130], 5, 3),
    ([], 2000, 1),
    ([40, 300], 1537, 2),
    ([1] * 300, 9, 1),
]


def plan(offsets, ids, num_experts, capacity=-1):
    """The CUDA plan, and what the count says of the call; arrays hold rubbish at first."""
    batch, (events, k) = len(offsets) - 1, ids.shape
    module = importlib.import_module("seqrec_fast._cuda_emulated")
    workspace = np.full(module.dispatch_workspace(events, k, batch, num_experts), 0x5A, np.uint8)
    parts = np.full(num_experts * batch + 1, -7, np.int64)
    status = np.zeros(2, np.int64)
    call = (offsets, ids, num_experts, capacity, workspace, parts)
    emulated("dispatch_offsets", np.int64, *call, status)
    if status[1]:
        return status, None
    index, slot = (np.full(status[0], -7, np.int64) for _ in range(2))
    position = np.full(ids.shape, -7, np.int64)
    emulated("dispatch_plan", np.int64, *call, index, slot, position)
    return status, (index, slot, parts, position)


@pytest.mark.parametrize("capacity", [None, 0, 1, 3, 1000])
@pytest.mark.parametrize("shape", CASES + LARGE, ids=lambda s: f"{len(s[0])}-{s[1]}-{s[2]}")
def test_the_plan_equals_that_of_the_cpu(rng, shape, capacity):
    offsets, ids = case(rng, *shape)
    status, found = plan(offsets, ids, shape[1], -1 if capacity is None else capacity)
    expected = sf.dispatch_by_expert(offsets, ids, shape[1], capacity=capacity)
    assert status.tolist() == [len(expected.index), 0]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_many_subsequences(rng):
    """More than a block sums: 1024."""
    offsets, ids = case(rng, rng.integers(0, 4, 700).tolist(), 5, 2)
    _, found = plan(offsets, ids, 5, 2)
    for ours, theirs in zip(found, sf.dispatch_by_expert(offsets, ids, 5, capacity=2), strict=True):
        np.testing.assert_array_equal(ours, theirs)


BAD = {
    "expert": ([0, 2], [[0, 1], [2, -1]], 2),
    "negative expert": ([0, 2], [[0, 1], [2, -2]], 3),
    "far expert": ([0, 2], [[0, 1 << 40], [2, -1]], 3),
    "twice": ([0, 2], [[0, 1], [2, 2]], 3),
    "first offset": ([1, 2], [[0, 1], [2, -1]], 3),
    "last offset": ([0, 3], [[0, 1], [2, -1]], 3),
    "decreasing": ([0, 2, 1, 2], [[0, 1], [2, -1]], 3),
    "wild offsets": ([0, 1 << 62, -(1 << 62), 2], [[0, 1], [2, -1]], 3),
}


@pytest.mark.parametrize("name", BAD)
def test_a_wrong_call_is_noticed(name):
    offsets, ids, num_experts = BAD[name]
    status, _ = plan(np.array(offsets), np.array(ids), num_experts)
    assert status[1] == 1
    with pytest.raises(ValueError, match="dispatch_by_expert"):
        sf.dispatch_by_expert(offsets, ids, num_experts)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [0, 1, 7, 16, 33, 64, 132])
def test_rows_go_out_and_come_back(rng, dtype, dim):
    offsets, ids = case(rng, [0, 5, 30, 1], 4, 2)
    d = sf.dispatch_by_expert(offsets, ids, 4)
    values = rng.standard_normal((len(ids), dim)).astype(dtype)
    other = rng.standard_normal((len(d.index), dim)).astype(dtype)
    weights = rng.standard_normal(ids.shape).astype(dtype)
    for factors in (None, weights):

        def both(run, factors=factors):
            rows, drows = (np.full_like(other, np.nan) for _ in range(2))
            sums, dsums = (np.full_like(values, np.nan) for _ in range(2))
            dots, ddots = (np.full_like(weights, np.nan) for _ in range(2))
            run("dispatch_rows", dtype, values, d.position, factors, None, rows, None)
            run("dispatch_rows", dtype, values, d.position, factors, other, drows, dots)
            run("combine_rows", dtype, other, d.position, factors, None, sums, None)
            run("combine_rows", dtype, other, d.position, factors, values, dsums, ddots)
            return rows, drows, sums, dsums, dots, ddots

        found, expected = both(emulated), both(on_cpu)
        for ours, theirs in zip(found[:2], expected[:2], strict=True):
            np.testing.assert_array_equal(ours, theirs)
        rtol = 1e-5 if dtype == np.float32 else 1e-12
        for ours, theirs in zip(found[2:], expected[2:], strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)


def test_rows_that_are_not_aligned(rng):
    """A row of 16 bytes, at an address that is no multiple of them."""
    ids = choices(rng, 20, 3, 1, empty=0)
    ids[ids < 0] = 0
    d = sf.dispatch_by_expert(offsets_of([20]), ids, 3)
    values = rng.standard_normal(20 * 4 + 1).astype(np.float32)[1:].reshape(20, 4)
    rows = np.full((20, 4), np.nan, np.float32)
    emulated("dispatch_rows", np.float32, values, d.position, None, None, rows, None)
    np.testing.assert_array_equal(rows, values[d.index])


def test_positions_out_of_range_are_passed_over():
    values, sums = np.ones((2, 4)), np.full((2, 4), np.nan)
    position = np.array([[0], [5]])
    emulated("combine_rows", np.float64, values, position, None, None, sums, None)
    assert sums.tolist() == [[1] * 4, [0] * 4]


def test_errors_name_what_came(rng):
    values, position = np.zeros((2, 4), np.float32), np.zeros((2, 1), np.int64)
    with pytest.raises(ValueError, match=r"weights has shape \(1, 2\); expected \(2, 1\)"):
        emulated("dispatch_rows", np.float32, values, position, np.ones(2, np.float32), None,
                 values, None)  # fmt: skip
    with pytest.raises(TypeError, match="combine_by_expert: position is float32; expected int64"):
        emulated("combine_rows", np.float32, values, values, None, None, values, None)
    with pytest.raises(ValueError, match="num_experts is 0; expected 1 to"):
        plan(np.array([0, 2]), position, 0)
    with pytest.raises(ValueError, match="there are 4294967296 events with 1 choices"):
        importlib.import_module("seqrec_fast._cuda_emulated").dispatch_workspace(1 << 32, 1, 1, 1)


@pytest.mark.usefixtures("emulated_kernels")
def test_the_operator_for_cuda(rng):
    offsets, ids = (torch.from_numpy(a) for a in case(rng, [9, 0, 40], 3, 2))
    for capacity in (-1, 4):
        found = _dispatch_ops._dispatch_by_expert_cuda(offsets, ids, 3, capacity)
        expected = _dispatch_ops._dispatch_by_expert_cpu(offsets, ids, 3, capacity)
        for ours, theirs in zip(found, expected, strict=True):
            assert torch.equal(ours, theirs)
    ids[3, 0] = 5
    with pytest.raises(ValueError, match=r"expert_ids\[6\] is 5; expected -1 to 2"):
        _dispatch_ops._dispatch_by_expert_cuda(offsets, ids, 3, -1)
