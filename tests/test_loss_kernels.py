"""The kernels of the losses against NumPy, without PyTorch: also run under the sanitizers."""

from __future__ import annotations

import numpy as np
import pytest

import seqrec_fast as sf
from seqrec_fast import _core

SIZES = [(1, 1, 1), (5, 64, 16), (97, 65, 7), (193, 300, 33)]


def problem(rng, rows, items, dim):
    hidden, weight = rng.standard_normal((rows, dim)), rng.standard_normal((items, dim))
    return hidden, weight, rng.standard_normal(items), rng.integers(0, items, rows)


def softmax(logits):
    exp = np.exp(logits - logits.max(1, keepdims=True))
    return exp / exp.sum(1, keepdims=True)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_cross_entropy(rng, sizes, threads):
    sf.set_num_threads(threads)
    hidden, weight, bias, target = problem(rng, *sizes)
    loss, log_sum, row_grad = np.empty(sizes[0]), np.empty(sizes[0]), rng.random(sizes[0])
    options = (hidden, weight, bias, target, 1.0, 0.0, 0.0, "full")
    _core.cross_entropy_f64(*options, loss, log_sum)
    share = softmax(hidden @ weight.T + bias)
    rows = np.arange(sizes[0])
    np.testing.assert_allclose(loss, -np.log(share[rows, target]), rtol=1e-10, atol=1e-12)
    gradients = [np.empty_like(part) for part in (hidden, weight, bias)]
    _core.cross_entropy_grad_f64(*options, log_sum, row_grad, *gradients, None)
    share[rows, target] -= 1
    share *= row_grad[:, None]
    for ours, theirs in zip(
        gradients, (share @ weight, share.T @ hidden, share.sum(0)), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_cross_entropy_in_bfloat16(rng, sizes):
    for backend in sf.supported_backends("bfloat16"):
        with sf.force_backend("bfloat16", backend):
            parts = problem(rng, *sizes)
            hidden, weight, bias = (part.astype(np.float32) for part in parts[:3])
            loss, log_sum = (np.empty(sizes[0], dtype=np.float32) for _ in range(2))
            options = (hidden, weight, bias, parts[3], 1.0, 0.0, 0.0, "bfloat16")
            _core.cross_entropy_f32(*options, loss, log_sum)
            gradients = [np.empty_like(part) for part in (hidden, weight, bias)]
            _core.cross_entropy_grad_f32(*options, log_sum, np.ones_like(loss), *gradients, None)
            share = softmax(parts[0] @ parts[1].T + parts[2])
            share[np.arange(sizes[0]), parts[3]] -= 1
            for ours, theirs in zip(
                gradients[:2], (share @ parts[1], share.T @ parts[0]), strict=True
            ):
                assert np.abs(ours - theirs).max() <= 0.03 * np.abs(theirs).max() + 1e-3


@pytest.mark.parametrize("kind", ["softmax", "corrected_softmax", "bpr_max", "top1_max", "gbce"])
@pytest.mark.parametrize(("groups", "n"), [(1, 70), (1, 3), (4, 65), (50, 2), (100, 9)])
def test_sampled_losses_against_differences(rng, kind, groups, n):
    """Derivatives along a random direction, but for the weight of the corrected form."""
    rows, dim = 100, 5
    hidden, weight, bias, target = problem(rng, rows, 200, dim)
    negatives = rng.integers(0, 200, (groups, n))

    def run(hidden, weight, bias, gradients):
        loss = np.empty(rows)
        room = gradients or (None,) * 5
        _core.sampled_loss_f64(
            "test", kind, "mask", hidden, weight, bias, target, negatives, None, None,
            0.3, 0.5 if kind != "gbce" else -1.0, 0.7, 0.9, "full", loss, *room,
        )  # fmt: skip
        return loss.sum()

    entries = groups * n
    gradients = (
        np.ones(rows), np.full((rows, dim), np.nan), np.full(rows, np.nan),
        None if groups == rows else np.full((entries, dim), np.nan), np.full(entries, np.nan),
    )  # fmt: skip
    total = run(hidden, weight, bias, gradients)
    assert np.isfinite(total)
    _, dhidden, dtarget, dnegatives, dbias = gradients
    order, begin, ids = _core.order_rows(np.concatenate([target, negatives.ravel()]))
    sums, bias_sums = np.empty((len(ids), dim)), np.empty((len(ids), 1))
    if groups == rows:
        factors = 0.3 * np.concatenate([dtarget, dbias])
        _core.row_sum_f64(order, begin, [hidden, hidden], factors, sums, [1, n])
    else:
        factors = np.concatenate([0.3 * dtarget, np.ones(entries)])
        _core.row_sum_f64(order, begin, [hidden, dnegatives], factors, sums)
    _core.row_sum_f64(order, begin, [dtarget[:, None], dbias[:, None]], None, bias_sums)
    if kind == "corrected_softmax":
        return
    moves = [rng.standard_normal(part.shape) for part in (hidden, weight, bias)]
    slope = (dhidden * moves[0]).sum() + (sums * moves[1][ids]).sum()
    slope += (bias_sums[:, 0] * moves[2][ids]).sum()
    step = 1e-6
    ahead, behind = (
        run(*(p + s * m for p, m in zip((hidden, weight, bias), moves, strict=True)), None)
        for s in (step, -step)
    )
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * step), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dim", [1, 7, 16, 33])
@pytest.mark.parametrize("rule", ["sgd", "adagrad", "adam"])
def test_updates_touch_their_rows_alone(rng, rule, dim):
    table, mean, square = (
        rng.standard_normal((200, dim)),
        np.zeros((200, dim)),
        np.zeros((200, dim)),
    )
    before, ids = table.copy(), np.unique(rng.integers(0, 200, 90))
    gradients = rng.standard_normal((len(ids), dim))
    options = (rule, 0.1, 0.0, 0.5 if rule != "adam" else 0.0, 0.9, 0.99, 1e-20, 1, mean, square)
    _core.update_rows_f64(options, ids, gradients, table)
    others = np.setdiff1d(np.arange(200), ids)
    assert np.array_equal(table[others], before[others])
    assert not mean[others].any()
    direction = gradients if rule == "sgd" else np.sign(gradients)
    np.testing.assert_allclose(table[ids], before[ids] - 0.1 * direction, rtol=1e-4, atol=1e-4)


def test_updates_inside_cross_entropy(rng):
    hidden, weight, bias, target = problem(rng, 20, 130, 9)
    loss, log_sum = np.empty(20), np.empty(20)
    options = (hidden, weight, bias, target, 1.0, 0.0, 0.0, "full")
    _core.cross_entropy_f64(*options, loss, log_sum)
    dweight, before = np.empty_like(weight), weight.copy()
    _core.cross_entropy_grad_f64(*options, log_sum, np.ones(20), None, dweight, None, None)
    rule = ("sgd", 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 1, None, None)
    _core.cross_entropy_grad_f64(*options, log_sum, np.ones(20), None, None, None, rule)
    np.testing.assert_allclose(weight, before - 0.5 * dweight, rtol=1e-12)


@pytest.mark.parametrize(
    ("repeats", "message"),
    [
        ([1], r"repeats has 1 numbers; expected 2"),
        ([1, -1], r"repeats\[1\] is -1; expected 0 or more"),
        ([1, 3], r"order has shape \(1, 4\); expected \(1, 8\)"),
    ],
)
def test_repeats_that_do_not_fit(repeats, message):
    parts = [np.ones((2, 3)), np.ones((2, 3))]
    order, begin, ids = _core.order_rows(np.arange(4))
    with pytest.raises(ValueError, match=f"row_sum: {message}"):
        _core.row_sum_f64(order, begin, parts, None, np.empty((len(ids), 3)), repeats)


def test_negatives_per_row_have_no_gradients_of_vectors(rng):
    hidden, weight, _, target = problem(rng, 4, 20, 3)
    with pytest.raises(ValueError, match="test: dnegatives is given; expected none"):
        _core.sampled_loss_f64(
            "test", "softmax", "keep", hidden, weight, None, target, np.zeros((4, 5), np.int64),
            None, None, 1.0, -1.0, 0.0, 1.0, "full", np.empty(4), np.ones(4), np.empty((4, 3)),
            np.empty(4), np.empty((20, 3)), np.empty(20),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("dtype", "precision", "message"),
    [
        (np.float64, "bfloat16", "precision is bfloat16; expected full with float64"),
        (np.float32, "int8", "precision is int8; expected full or bfloat16"),
    ],
)
def test_precisions_that_a_loss_does_not_have(rng, dtype, precision, message):
    hidden, weight, _, target = problem(rng, 4, 20, 3)
    tables, loss = (hidden.astype(dtype), weight.astype(dtype), None, target), np.empty(4, dtype)
    suffix = "_f64" if dtype is np.float64 else "_f32"
    with pytest.raises(ValueError, match=f"test: {message}"):
        getattr(_core, "sampled_loss" + suffix)(
            "test", "softmax", "keep", *tables, target, None, None, 1.0, -1.0, 0.0, 1.0,
            precision, loss, *(None,) * 5,
        )  # fmt: skip
    with pytest.raises(ValueError, match=f"linear_cross_entropy: {message}"):
        getattr(_core, "cross_entropy" + suffix)(
            *tables, 1.0, 0.0, 0.0, precision, loss, np.empty_like(loss)
        )
