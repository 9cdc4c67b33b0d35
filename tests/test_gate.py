"""The expert gate on arrays against its definition, without PyTorch: also under the sanitizers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import seqrec_fast as sf
from seqrec_fast import _core, reference_gate

SCORES = ("softmax", "sigmoid", "sqrt_softplus")
ORDERS = ("score_then_topk", "topk_then_score")
COUNTS = (1, 2, 3, 7, 64, 144, 160, 257, 512, 1000)
OPTIONS = [
    {"score": score, "order": order, "renormalize": renormalize}
    for score, order, renormalize in itertools.product(SCORES, ORDERS, (True, False))
]
EDGES = {
    "equal": lambda n: np.zeros(n),
    "one NaN": lambda n: np.where(np.arange(n) == n // 2, np.nan, np.arange(n) % 5),
    "all NaN": lambda n: np.full(n, np.nan),
    "all -inf": lambda n: np.full(n, -np.inf),
    "all inf": lambda n: np.full(n, np.inf),
    "one -inf": lambda n: np.where(np.arange(n) == 0, -np.inf, 1.0),
    "one number": lambda n: np.where(np.arange(n) == n - 1, 1.0, -np.inf),
    "one number, NaN": lambda n: np.where(np.arange(n) == n - 1, 1.0, np.nan),
    "mixed": lambda n: np.resize([np.inf, np.nan, 0.5, -np.inf, 0.5, -0.0, 0.0], n),
    "huge": lambda n: np.resize([3e38, -3e38, 1e30, 0.0], n),
}


def assert_same(logits, k, **options):
    weights, ids = sf.expert_gate(logits, k, **options)
    wanted, chosen = reference_gate.expert_gate(logits, k, **options)
    if ids.size < 1000:
        np.testing.assert_array_equal(ids, chosen)
    else:  # rounding may make equal scores
        np.testing.assert_array_equal(np.sort(ids), np.sort(chosen))
        assert (ids == chosen).mean() > 0.999
    rtol = 3e-6 if logits.dtype == np.float32 else 1e-12
    # below the smallest normal number a softmax gives 0
    np.testing.assert_allclose(weights, wanted, rtol=rtol, atol=rtol * 1e-2)
    assert weights.dtype == logits.dtype
    return weights, ids


def counts_of_k(experts):
    return sorted({1, min(2, experts), min(8, experts), min(20, experts), experts})


def test_sqrt_softplus_of_low_logits(target):
    logits = np.array([[-58.0, -59.5, -60.0, -60.5, -62.0], [-90, -92, -100, -140, -160]], "f")
    for k in (2, 5):
        weights, _ = sf.expert_gate(logits, k, score="sqrt_softplus")
        wanted, _ = sf.expert_gate(logits.astype(float), k, score="sqrt_softplus")
        np.testing.assert_allclose(weights, wanted, rtol=1e-5)
    ids = np.tile(np.arange(2), (2, 1))
    slopes = [np.empty((2, 5), dtype) for dtype in (np.float32, np.float64)]
    for x, slope, name in zip((logits, logits.astype(float)), slopes, ("f32", "f64"), strict=True):
        arguments = (x, 2, "sqrt_softplus", "score_then_topk", True, None, None, 1.0, ids)
        weights = sf.expert_gate(x, 2, score="sqrt_softplus")[0]
        given = np.array([[1.0, 0.0]] * 2, x.dtype)
        getattr(_core, f"expert_gate_grad_{name}")(*arguments, weights, given, slope)
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-5)
    assert (slopes[0][:, :2] != 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("experts", COUNTS)
def test_any_number_of_experts(target, rng, experts, dtype):
    logits = (2 * rng.standard_normal((37, experts))).astype(dtype)
    for k in counts_of_k(experts):
        assert_same(logits, k)
    assert_same(logits, min(3, experts), renormalize=False)
    assert_same(logits, min(4, experts), score="sigmoid")


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_options(target, rng, options):
    for dtype in (np.float32, np.float64):
        logits = (3 * rng.standard_normal((35, 29))).astype(dtype)
        mask = rng.random((35, 29)) < 0.3
        mask[0] = False
        # far apart, so that rounding decides no choice
        bias = (rng.permutation(29) * 100).astype(dtype)
        for k in (1, 3, 7):
            assert_same(logits, k, scale=2.5, **options)
            assert_same(logits, k, mask=mask, **options)
            assert_same(logits, k, mask=mask[1], bias=bias, **options)
            assert_same(logits, k, mask=mask, bias=bias, scale=-1.0, **options)


@pytest.mark.parametrize("name", EDGES)
def test_edges(target, name):
    for experts, dtype in ((1, np.float32), (7, np.float32), (7, np.float64), (64, np.float32)):
        logits = np.tile(EDGES[name](experts), (17, 1)).astype(dtype)
        for k, options in itertools.product({1, min(2, experts), min(8, experts)}, OPTIONS):
            weights, ids = assert_same(logits, k, **options)
            assert np.isfinite(weights).all()
            for row in ids:
                real = row[row >= 0]
                assert len(set(real)) == len(real)
                assert (real < experts).all()
            assert (weights[ids < 0] == 0).all()


def test_ties_are_by_id(target):
    for experts, k in ((9, 4), (64, 2), (300, 8), (300, 30), (1000, 600)):
        _, ids = sf.expert_gate(np.zeros((18, experts), np.float32), k)
        np.testing.assert_array_equal(ids, np.tile(np.arange(k), (18, 1)))


def test_many_ties(target, rng):
    for experts, k in ((300, 8), (300, 30), (64, 3), (200, 5)):
        assert_same(rng.integers(0, 3, (20, experts)).astype(np.float32), k)
        few = np.zeros((20, experts), np.float32)
        few[:, rng.permutation(experts)[: k - 1]] = 1 + np.arange(k - 1)
        assert_same(few, k)


def test_no_candidate_is_chosen_twice_or_by_the_mask(target, rng):
    logits = rng.standard_normal((40, 12)).astype(np.float32)
    mask = np.zeros(12, bool)
    mask[[3, 7]] = True
    weights, ids = sf.expert_gate(logits, 4, mask=mask)
    assert set(ids[:, :2].ravel()) == {3, 7}
    assert (ids[:, 2:] == -1).all()
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-6)
    assert not weights[:, 2:].any()


def test_choice_is_made_in_float32(rng):
    """Values that bfloat16 cannot tell apart are told apart, by a unit in the last place."""
    logits = np.full((16, 70), 1.0, np.float32)
    best = rng.integers(0, 70, 16)
    logits[np.arange(16), best] = np.nextafter(np.float32(1), np.float32(2))
    np.testing.assert_array_equal(sf.expert_gate(logits, 1)[1][:, 0], best)


def test_equal_scores_are_listed_by_id(target):
    """The choice is made by logits; sigmoids of 30, 40 and 35 are all 1 in float32."""
    logits = np.array([[40, 30, 50, 35, 1]] * 18, np.float32)
    for k, by_score, by_logit in ((3, [0, 2, 3], [2, 0, 3]), (5, [0, 1, 2, 3, 4], [2, 0, 3, 1, 4])):
        for order, wanted in (("score_then_topk", by_score), ("topk_then_score", by_logit)):
            ids = sf.expert_gate(logits, k, score="sigmoid", order=order)[1]
            np.testing.assert_array_equal(ids, [wanted] * 18)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_row_depends_on_nothing_else(target, rng, options):
    """Neither on its batch nor on threads; every output is written."""
    bias = rng.standard_normal(50).astype(np.float32)
    logits = rng.standard_normal((700, 50)).astype(np.float32)
    mask = rng.random((700, 50)) < 0.5
    for k, extra in itertools.product((2, 6), ({}, {"bias": bias})):
        weights, ids = sf.expert_gate(logits, k, mask=mask, **options, **extra)
        order = rng.permutation(700)
        sf.set_num_threads(3)
        moved = sf.expert_gate(logits[order], k, mask=mask[order], **options, **extra)
        sf.set_num_threads(1)
        assert np.array_equal(moved[0], weights[order])
        assert np.array_equal(moved[1], ids[order])
        for n in (1, 5):
            alone = sf.expert_gate(logits[:n], k, mask=mask[:n], **options, **extra)
            assert np.array_equal(alone[0], weights[:n])
            assert np.array_equal(alone[1], ids[:n])
    room = np.full((700, 2), np.nan, np.float32), np.full((700, 2), -7, np.int64)
    _core.expert_gate_f32(logits, 2, *options.values(), None, None, 1.0, *room)
    assert np.isfinite(room[0]).all()
    assert (room[1] >= 0).all()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_gradient_against_differences(target, rng, options):
    for n, experts, k in ((3, 1, 1), (20, 5, 2), (17, 30, 30), (5, 70, 6)):
        logits = rng.standard_normal((n, experts))
        if experts > 5:
            logits[1, 2], logits[2] = np.nan, np.nan
        mask = rng.random((n, experts)) < 0.8
        dweights = rng.standard_normal((n, k))
        extra = {"bias": 10.0 * rng.permutation(experts), "mask": mask, "scale": 1.7}
        weights, ids = sf.expert_gate(logits, k, **options, **extra)
        found = np.full_like(logits, np.nan)
        _core.expert_gate_grad_f64(
            logits, k, *options.values(), extra["bias"], mask.view(np.uint8), 1.7, ids, weights,
            dweights, found,
        )  # fmt: skip
        wanted = reference_gate.expert_gate_grad(logits, dweights, k, **options, **extra)
        np.testing.assert_allclose(found, wanted, rtol=1e-6, atol=1e-8)
        assert not found[np.isnan(logits) | ~mask].any()


@settings(max_examples=40, deadline=None)
@given(
    logits=hnp.arrays(
        np.float32,
        st.tuples(st.integers(0, 20), st.integers(1, 80)),
        elements=st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 2.5]),
    ),
    data=st.data(),
)
def test_any_logits(logits, data):
    k = data.draw(st.integers(1, logits.shape[1]))
    assert_same(logits, k, **data.draw(st.sampled_from(OPTIONS)))


def test_wrong_input():
    good = np.zeros((3, 8), np.float32)
    for arguments, options, error, message in (
        ((good, 9), {}, ValueError, "k is 9; expected 1 to 8"),
        ((good, 0), {}, ValueError, "k is 0; expected 1 to 8"),
        ((good[:, :0], 1), {}, ValueError, "k is 1; expected 1 to 0"),
        ((good[0], 1), {}, ValueError, r"logits has shape \(8,\); expected"),
        ((good.astype(int), 1), {}, TypeError, "logits is int64; expected float32 or float64"),
        ((good, 1), {"score": "max"}, ValueError, "score is 'max'; expected one of softmax, sig"),
        ((good, 1), {"order": "no"}, ValueError, "order is 'no'; expected one of score_then_topk"),
        ((good, 1), {"bias": np.zeros(7, np.float32)}, ValueError, r"bias has shape \(7,\)"),
        ((good, 1), {"bias": np.zeros(8)}, TypeError, "bias is float64; expected float32"),
        ((good, 1), {"mask": np.zeros(8)}, TypeError, "mask is float64; expected bool"),
        ((good, 1), {"mask": np.zeros((2, 8), bool)}, ValueError, r"mask has shape \(2, 8\)"),
        ((good, 1), {"scale": np.inf}, ValueError, "scale is inf; expected a finite number"),
    ):
        with pytest.raises(error, match="expert_gate: " + message):
            sf.expert_gate(*arguments, **options)


def test_wrong_ids_of_the_gradient():
    logits = np.zeros((3, 8))
    head = (logits, 1, "softmax", "score_then_topk", True, None, None, 1.0)
    for wrong in (8, -2):
        with pytest.raises(ValueError, match=f"ids holds {wrong}; expected -1 to 7"):
            _core.expert_gate_grad_f64(
                *head, np.full((3, 1), wrong), *[np.zeros((3, 1))] * 2, np.empty((3, 8))
            )
    with pytest.raises(ValueError, match=r"dlogits has shape \(3, 7\); expected \(3, 8\)"):
        _core.expert_gate_grad_f64(
            *head, np.zeros((3, 1), np.int64), *[np.zeros((3, 1))] * 2, np.empty((3, 7))
        )
