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


def test_autograd_sees_that_the_table_has_changed():
    table = torch.randn(5, 3, requires_grad=True)
    product = (table * table).sum()
    SF.RowUpdate(table, lr=0.1).step(torch.tensor([2]), torch.ones(1, 3))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_autograd_sees_a_step_inside_backward():
    hidden, weight, bias, wanted = tables(4, 30, 5, torch.float32)
    weight = weight.detach()
    update = SF.RowUpdate(weight, lr=0.1)
    loss = SF.linear_cross_entropy(hidden, weight, wanted, bias, update=update)
    loss.backward(retain_graph=True)
    assert update.steps == 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_table_that_would_be_copied_is_no_table_to_update():
    hidden, weight, _, wanted = tables(4, 30, 5, torch.float32)
    update = SF.RowUpdate(weight, "sgd", lr=0.1)
    with pytest.raises(TypeError, match=r"update is of a torch\.float32 table; expected .*float64"):
        SF.linear_cross_entropy(hidden.double(), weight, wanted, update=update)


@pytest.mark.parametrize("rule", RULES)
def test_a_step_that_fails_is_none(rule):
    found = []
    for fails in (False, True):
        table = torch.ones(5, 3)
        update = SF.RowUpdate(table, rule, lr=0.1)
        if fails:
            for ids, gradients, error in (
                (torch.tensor([9]), torch.ones(1, 3), ValueError),
                (torch.tensor([1]), torch.ones(1, 3).half(), TypeError),
                (torch.tensor([1]).int(), torch.ones(1, 3), TypeError),
            ):
                with pytest.raises(error, match=r"update_rows: ids|step: (gradients|ids) is torch"):
                    update.step(ids, gradients)
        update.step(torch.tensor([1]), torch.ones(1, 3))
        assert update.steps == 1
        found.append(table)
    assert torch.equal(*found)


@pytest.mark.parametrize("rule", RULES)
def test_a_run_goes_on_from_its_state(rule):
    options, _ = RULES[rule]
    ids, gradient = torch.tensor([0, 2]), torch.tensor([[1.0, -2, 3], [0.5, 0, 1]])
    whole = SF.RowUpdate(torch.ones(4, 3), rule, **options)
    first = SF.RowUpdate(torch.ones(4, 3), rule, **options)
    for update in (whole, first):
        update.step(ids, gradient)
        update.lr = 0.05
    second = SF.RowUpdate(first.table.clone(), rule, **options)
    second.load_state_dict(first.state_dict())
    first.step(ids, gradient)  # the state is a copy
    for update in (whole, second):
        update.step(ids, 2 * gradient)
    assert second.steps == 2
    assert torch.equal(whole.table, second.table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rule": "sgd"}, "rule is 'sgd'; expected 'adam'"),
        ({"steps": -1}, "steps is -1; expected 0 or more"),
        ({"mean": torch.zeros(2, 3)}, r"mean has shape \(2, 3\); expected \(4, 3\)"),
        ({"square": None}, r"square has shape None; expected \(4, 3\)"),
    ],
)
def test_states_of_others_are_told(change, message):
    update = SF.RowUpdate(torch.ones(4, 3), "adam", lr=0.1)
    with pytest.raises(ValueError, match=message):
        update.load_state_dict({**update.state_dict(), **change})
    with pytest.raises(ValueError, match="state has no 'rule'"):
        update.load_state_dict({})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": -1}, "lr is -1.0; expected 0 or more"),
        ({"lr": float("inf")}, "lr is inf; expected a finite number"),
        ({"lr": "a"}, "lr is 'a'; expected a number"),
        ({"lr": 0.1, "eps": -1}, "eps is -1.0; expected 0 or more"),
        ({"lr": 0.1, "momentum": 0.5}, "momentum is 0.5; adam expects 0"),
        ({"lr": 0.1, "betas": (0.9, 1)}, r"betas\[1\] is 1.0; expected 0 or more, below 1"),
        ({"lr": 0.1, "betas": 0.9}, "betas is 0.9; expected two numbers"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises((ValueError, TypeError), match=f"^RowUpdate: {message}"):
        SF.RowUpdate(torch.ones(4, 3), "adam", **options)


def test_it_shows_its_options():
    update = SF.RowUpdate(torch.ones(4, 3), "sgd", lr=0.1, momentum=0.5)
    assert repr(update).startswith("RowUpdate(table of shape (4, 3), 'sgd', lr=0.1, weight_decay")
