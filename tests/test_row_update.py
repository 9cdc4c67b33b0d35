"""Optimiser steps on rows: equal to PyTorch's, also inside a backward pass."""

from __future__ import annotations

import pytest
import torch

from loss_cases import tables
from seqrec_fast.nn import functional as SF

RULES = {
    "sgd": ({"lr": 0.1, "momentum": 0.9}, lambda p: torch.optim.SGD(p, 0.1)),
    "adagrad": ({"lr": 0.1}, lambda p: torch.optim.Adagrad(p, 0.1)),
    "adam": (
        {"lr": 0.1, "weight_decay": 0.2},
        lambda p: torch.optim.AdamW(p, 0.1, weight_decay=0.2),
    ),
}


@pytest.mark.parametrize("rule", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_row_update_equals_the_optimizers_of_torch(target, rule, dtype):
    options, theirs = RULES[rule]
    options = {**options, "momentum": 0.0}
    _, table, _, _ = tables(1, 30, 21, dtype)
    table = table.detach()
    parameter = torch.nn.Parameter(table.clone())
    optimizer, update = theirs([parameter]), SF.RowUpdate(table, rule, **options)
    generator = torch.Generator().manual_seed(3)
    for _ in range(4):
        gradient = torch.randn(table.shape, generator=generator, dtype=dtype)
        parameter.grad = gradient.clone()
        optimizer.step()
        update.step(torch.arange(30), gradient)
        # torch adds Adagrad's eps beside the root, not under it.
        rtol = 1e-5 if dtype == torch.float32 else 1e-6 if rule == "adagrad" else 1e-12
        torch.testing.assert_close(table, parameter.detach(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("rule", ["sgd", "adagrad"])
def test_momentum_moves_the_rows_of_a_step(rule):
    table = torch.zeros(5, 3, dtype=torch.float64)
    update = SF.RowUpdate(table, rule, lr=0.5, momentum=0.9)
    square, velocity = torch.zeros(3), torch.zeros(3)
    expected = torch.zeros(3, dtype=torch.float64)
    for gradient in (torch.tensor([1.0, -2, 3]), torch.tensor([0.5, 1, 0])):
        update.step(torch.tensor([2]), gradient[None].double())
        square = square + gradient**2
        scale = 1.0 if rule == "sgd" else square.sqrt() + 1e-10
        velocity = 0.9 * velocity - 0.5 * gradient / scale
        expected = expected + velocity
        torch.testing.assert_close(table[2], expected, rtol=1e-6, atol=1e-6)
    assert (table[[0, 1, 3, 4]] == 0).all()


@pytest.mark.parametrize("rule", RULES)
def test_update_inside_backward_equals_a_dense_step(rule):
    options, _ = RULES[rule]
    hidden, weight, bias, wanted = tables(20, 200, 9, torch.float32)
    fused = weight.detach().clone().requires_grad_()
    update = SF.RowUpdate(fused, rule, **options)
    apart = SF.RowUpdate(weight, rule, **options)
    for _ in range(3):
        loss = SF.linear_cross_entropy(hidden, fused, wanted, bias, update=update)
        dhidden = torch.autograd.grad(loss, (hidden, fused), allow_unused=True)
        plain = SF.linear_cross_entropy(hidden, weight, wanted, bias)
        found = torch.autograd.grad(plain, (hidden, weight))
        apart.step(torch.arange(200), found[1])
        assert dhidden[1] is None
        assert torch.equal(dhidden[0], found[0])
        assert torch.equal(fused, weight)
