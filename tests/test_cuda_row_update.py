"""The CUDA kernels of row updates and of the gate's noise, against those of the CPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cuda_kernels import emulated, on_cpu, run_emulated
from seqrec_fast import _core
from seqrec_fast.nn import _loss_ops
from seqrec_fast.nn.row_update import RowUpdate
from seqrec_fast.training import optimizers

RULES = ["sgd", "adagrad", "adam"]


def rule_of(rule, momentum, step, mean, square):
    return (
        rule, 0.1, 0.2 if rule == "adam" else 0.0, momentum, 0.9, 0.999, 1e-8, step,
        mean if rule == "adam" or momentum else None, None if rule == "sgd" else square,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [0, 1, 6, 16, 300])
@pytest.mark.parametrize(
    ("rule", "momentum"), [(r, 0.0) for r in RULES] + [("sgd", 0.9), ("adagrad", 0.5)]
)
def test_rows_equal_those_of_the_cpu(rng, rule, momentum, dim, dtype):
    ids = np.array([0, 3, 4, 11])
    start = rng.standard_normal((12, dim)).astype(dtype)
    gradients = [rng.standard_normal((4, dim)).astype(dtype) for _ in range(3)]

    def steps(run):
        table, mean, square = start.copy(), np.zeros_like(start), np.zeros_like(start)
        for step, gradient in enumerate(gradients, 1):
            run(
                "update_rows", dtype,
                rule_of(rule, momentum, step, mean, square), ids, gradient, table,
            )  # fmt: skip
        return table, mean, square

    rtol = 1e-6 if dtype == np.float32 else 1e-14
    for ours, theirs in zip(steps(emulated), steps(on_cpu), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol)
        np.testing.assert_array_equal(np.delete(ours, ids, 0), np.delete(theirs, ids, 0))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 6, 16])
def test_sums_have_the_bits_of_the_cpu(rng, dim, dtype):
    """Of two matrices, one with repeated rows; an id has many of them."""
    first, second = (rng.standard_normal((n, dim)).astype(dtype) for n in (7, 30))
    ids = rng.integers(0, 9, 7 + 60)
    ids[10:40] = 3
    order, begin, unique = _core.order_rows(ids)
    for factors in (None, rng.standard_normal(67).astype(dtype)):
        found, expected = (np.full((len(unique), dim), np.nan, dtype) for _ in range(2))
        emulated("row_sum", dtype, order, begin, (first, second), factors, found, [1, 2])
        on_cpu("row_sum", dtype, order, begin, [first, second], factors, expected, [1, 2])
        if factors is None:
            np.testing.assert_array_equal(found, expected)
        # a target without fused products rounds them
        np.testing.assert_allclose(found, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)
    nothing = np.zeros((0, dim), dtype)
    emulated("row_sum", dtype, np.zeros(0, int), np.zeros(1, int), (nothing,), None, nothing, [])


@pytest.mark.parametrize("noise", ["normal", "gumbel"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 8), (3, 16), (4, 17), (3, 64), (2, 150), (0, 3)])
def test_noise_is_that_of_the_cpu(noise, shape):
    found, expected = (np.full(shape, np.nan, np.float32) for _ in range(2))
    for seed, step in ((0, 0), (2**40 + 3, 5)):
        emulated("gate_noise", None, noise, seed, step, found)
        _core.gate_noise(noise, seed, step, expected)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def _on_emulated_threads(emulated_kernels, monkeypatch):
    """Steps of tensors of the CPU, by the CUDA kernels."""
    monkeypatch.setattr(optimizers, "run", run_emulated)


def _tables(rule):
    generator = torch.Generator().manual_seed(1)
    table = torch.nn.Parameter(torch.randn(20, 5, generator=generator))
    other = torch.nn.Parameter(torch.randn(7, generator=generator))
    update = RowUpdate(torch.randn(9, 4, generator=generator), rule, lr=0.1)
    optimizer = optimizers.RowOptimizer([table, other], rule, 0.1)
    for _ in range(3):
        values = torch.randn(3, 5, generator=generator)
        table.grad = torch.sparse_coo_tensor(
            [[8, 1, 8]], values, table.shape, check_invariants=True
        )
        other.grad = torch.randn(7, generator=generator)
        optimizer.step()
        update.step(torch.tensor([2, 5]), torch.randn(2, 4, generator=generator))
    return table.detach(), other.detach(), update.table


@pytest.mark.parametrize("rule", RULES)
def test_the_optimizers(rule, request):
    expected = _tables(rule)
    request.getfixturevalue("_on_emulated_threads")
    for ours, theirs in zip(_tables(rule), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("_on_emulated_threads")
def test_the_operator_of_sums(rng):
    ids = torch.from_numpy(rng.integers(0, 5, 12))
    rows = [torch.from_numpy(rng.standard_normal((6, 3)))] * 2
    found = _loss_ops._sum_rows_cuda(ids, rows, [1, 1], None)
    for ours, theirs in zip(found, _loss_ops._sum_rows_cpu(ids, rows, [1, 1], None), strict=True):
        assert torch.equal(ours, theirs)


def test_errors_name_what_came():
    table = np.zeros((3, 2), np.float32)
    rule = rule_of("adam", 0.0, 1, table.copy(), None)
    with pytest.raises(ValueError, match="update_rows: square is missing"):
        emulated("update_rows", np.float32, rule, np.array([0]), table[:1], table)
    rule = rule_of("sgd", 0.0, 1, None, None)
    with pytest.raises(ValueError, match=r"gradients has shape \(2, 2\); expected \(1, 2\)"):
        emulated("update_rows", np.float32, rule, np.array([0]), table[:2], table)
    order, begin = np.array([0]), np.array([0, 1])
    with pytest.raises(ValueError, match="rows are 9 matrices; expected up to 8 on a GPU"):
        emulated("row_sum", np.float32, np.arange(9), begin, (table[:1],) * 9, None, table[:1], [])
    with pytest.raises(ValueError, match=r"row_sum: order has shape \(1, 1\); expected \(1, 3\)"):
        emulated("row_sum", np.float32, order, begin, (table,), None, table[:1], [])
    with pytest.raises(ValueError, match="noise is x; expected one of normal"):
        emulated("gate_noise", None, "x", 0, 0, table)
