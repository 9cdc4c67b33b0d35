"""The CUDA kernels of the expert gate, on emulated threads, against those of the CPU."""

from __future__ import annotations

import numpy as np
import pytest

from cuda_kernels import emulated, on_cpu
from test_gate import EDGES, OPTIONS

SHAPES = [(1, 1), (3, 2), (9, 7), (17, 64), (2, 144), (5, 257), (1, 1000)]


def gate(run, logits, k, bias=None, mask=None, scale=1.0, **options):
    weights = np.full((len(logits), k), np.nan, logits.dtype)
    ids = np.full((len(logits), k), -7, np.int64)
    dlogits = np.full_like(logits, np.nan)
    dweights = np.random.default_rng(3).standard_normal(weights.shape).astype(logits.dtype)
    call = (logits, k, options["score"], options["order"], options["renormalize"], bias,
            None if mask is None else mask.view(np.uint8), scale)  # fmt: skip
    run("expert_gate", logits.dtype, *call, weights, ids)
    run("expert_gate_grad", logits.dtype, *call, ids, weights, dweights, dlogits)
    return weights, ids, dlogits


def assert_same(logits, k, **options):
    found, expected = (gate(run, logits, k, **options) for run in (emulated, on_cpu))
    np.testing.assert_array_equal(found[1], expected[1])
    rtol = 1e-5 if logits.dtype == np.float32 else 1e-12
    for a, b in ((found[0], expected[0]), (found[2], expected[2])):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_equals_the_cpu(rng, shape, options, dtype):
    logits = (2 * rng.standard_normal(shape)).astype(dtype)
    for k in sorted({1, min(2, shape[1]), min(20, shape[1])}):
        assert_same(logits, k, **options, scale=2.5)


@pytest.mark.parametrize("name", EDGES)
@pytest.mark.parametrize("options", OPTIONS)
def test_hostile_values(name, options):
    with np.errstate(over="ignore"):
        logits = np.stack([EDGES[name](n := 10)] * 3).astype(np.float32)
    assert_same(logits, 1, **options)
    assert_same(logits, n, **options)


@pytest.mark.parametrize("options", OPTIONS)
def test_bias_and_mask(rng, options):
    logits = rng.standard_normal((20, 37))
    bias = rng.standard_normal(37)
    mask = rng.random((20, 37)) < 0.4
    mask[3] = False
    assert_same(logits, 4, **options, bias=bias)
    assert_same(logits, 4, **options, mask=mask)
    assert_same(logits, 37, **options, bias=bias, mask=mask[:1])


def test_errors_name_what_came():
    logits = np.zeros((2, 3), np.float32)
    options = {"score": "softmax", "order": "score_then_topk", "renormalize": True}
    with pytest.raises(ValueError, match="k is 4; expected 1 to 3"):
        gate(emulated, logits, 4, **options)
    with pytest.raises(TypeError, match="bias is float64; expected float32"):
        gate(emulated, logits, 1, bias=np.zeros(3), **options)
