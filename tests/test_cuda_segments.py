"""The CUDA kernels of segments, on emulated threads, against those of the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from cuda_kernels import emulated, on_cpu
from dispatch_cases import offsets_of
from test_gate import OPTIONS

LENGTHS = [[0, 1, 40, 0, 0, 3, 0], [5], [], [0, 0], [1] * 70, [0] * 40 + [35]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [0, 1, 7, 16, 33, 132])
@pytest.mark.parametrize("lengths", LENGTHS, ids=len)
def test_sums_and_their_adjoint(rng, lengths, dim, dtype):
    """The same bits as on the CPU: rows are added in their order, and means are divided."""
    offsets = offsets_of(lengths)
    values = rng.standard_normal((offsets[-1], dim)).astype(dtype)

    def both(run, mean):
        sums = np.full((len(lengths), dim), np.nan, dtype)
        spread = np.full_like(values, np.nan)
        run("segment_sum", dtype, values, offsets, mean, sums)
        run("expand_segments", dtype, sums, offsets, mean, spread)
        return sums, spread

    for mean in (False, True):
        for ours, theirs in zip(both(emulated, mean), both(on_cpu, mean), strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("dim", [1, 2, 5])
@pytest.mark.parametrize("lengths", LENGTHS, ids=len)
def test_ids_are_spread(rng, lengths, dim):
    offsets = offsets_of(lengths)
    ids = rng.integers(-(2**62), 2**62, (len(lengths), dim))
    spread = np.full((offsets[-1], dim), -7)
    emulated("expand_segments", np.int64, ids, offsets, False, spread)
    np.testing.assert_array_equal(spread, np.repeat(ids, lengths, axis=0))


@pytest.mark.parametrize("offsets", [[0, 99, 3], [-5, 2, 3], [2, 1, 3]])
def test_wrong_offsets_touch_nothing_else(offsets):
    """Segments are held inside the events; what the results are is open."""
    values, sums = np.ones((3, 5), np.float32), np.empty((2, 5), np.float32)
    emulated("segment_sum", np.float32, values, np.array(offsets), True, sums)
    emulated("expand_segments", np.float32, sums, np.array(offsets), True, values)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (9, 16), (5, 40)])
@pytest.mark.parametrize("options", OPTIONS[:3])
def test_routes(rng, shape, options, dtype):
    experts, dim = shape
    lengths = [3, 0, 1, 20, 6]
    offsets = offsets_of(lengths)
    values = rng.standard_normal((offsets[-1], dim)).astype(dtype)
    prototypes = rng.standard_normal((experts, dim)).astype(dtype)
    bias, mask = rng.standard_normal(experts).astype(dtype), rng.random((5, experts)) < 0.8
    k = min(2, experts)

    def route(run, first=0, last=5):
        n = last - first
        means, logits, weights = (
            np.full((n, columns), np.nan, dtype) for columns in (dim, experts, k)
        )
        ids = np.full((n, k), -7)
        run(
            "route_segments", dtype, values, offsets[first : last + 1].copy(), prototypes, k,
            options["score"], options["order"], options["renormalize"], bias,
            mask[first:last].view(np.uint8).copy(), 1.5, means, logits, weights, ids,
        )  # fmt: skip
        return means, logits, weights, ids

    found, expected = route(emulated), route(on_cpu)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[3], expected[3])
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    for ours, theirs in zip(found[1:3], expected[1:3], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)
    # a route depends on its segment alone
    for ours, theirs in zip(route(emulated, 3, 4), found, strict=True):
        np.testing.assert_array_equal(ours, theirs[3:4])


def test_errors_name_what_came():
    values, offsets = np.zeros((3, 2), np.float32), np.array([0, 1, 3])
    with pytest.raises(ValueError, match=r"segment_mean: output has shape \(3, 2\); expected \(2"):
        emulated("segment_sum", np.float32, values, offsets, True, np.zeros_like(values))
    with pytest.raises(ValueError, match="expand_segments: segment_offsets has no entries"):
        emulated("expand_segments", np.float32, values, np.zeros(0, np.int64), True, values)
    with pytest.raises(ValueError, match="segment_offsets end at 0; expected 3, the number of ev"):
        emulated("expand_segments", np.float32, values[:0], np.zeros(1, np.int64), True, values)
