from __future__ import annotations

import pytest
import torch

from seqrec_fast.models import GRU4Rec
from seqrec_fast.training import RowLookups, RowOptimizer, make_optimizers


def loss_of(rows: torch.Tensor, step: int) -> torch.Tensor:
    return (rows - step).square().sum()


def after_steps(sparse: bool, name: str, rows=(3, 0, 1, 2, 0), **options) -> torch.Tensor:
    table = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(4, 3))
    optimizer = RowOptimizer([table], name, 0.1, **options)
    for step in range(5):
        optimizer.zero_grad()
        if sparse:
            lookups = RowLookups()
            loss_of(lookups.take(table, torch.tensor(rows)), step).backward()
            lookups.set_gradients()
            assert table.grad.is_sparse
        else:
            loss_of(table[list(rows)], step).backward()
        optimizer.step()
    return table.detach()


OPTIONS = [
    ("adam", {}),
    ("adam", {"weight_decay": 0.1}),
    ("adagrad", {}),
    ("adagrad", {"momentum": 0.3}),
    ("sgd", {}),
    ("sgd", {"momentum": 0.9}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_sparse_gradients_of_all_rows_equal_dense_ones(name, options) -> None:
    sparse, dense = (after_steps(kind, name, **options) for kind in (True, False))
    torch.testing.assert_close(sparse, dense)


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_rows_without_a_gradient_stay(name, options) -> None:
    start = torch.linspace(-1, 1, 12).reshape(4, 3)
    table = after_steps(True, name, rows=(1, 3, 3), **options)
    assert torch.equal(table[[0, 2]], start[[0, 2]])
    assert (table[[1, 3]] != start[[1, 3]]).all()


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_adam_and_descent_equal_torch(weight_decay) -> None:
    for name, theirs, options in (
        ("adam", torch.optim.AdamW, {"weight_decay": weight_decay}),
        ("sgd", torch.optim.SGD, {}),
    ):
        table = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(4, 3))
        optimizer = theirs([table], lr=0.1, **options)
        for step in range(5):
            optimizer.zero_grad()
            loss_of(table[[3, 0, 1, 2, 0]], step).backward()
            optimizer.step()
        torch.testing.assert_close(after_steps(True, name, **options), table.detach())


def test_adagrad_is_that_of_gru4rec() -> None:
    table, total, velocity = torch.linspace(-1, 1, 12).reshape(4, 3), 0.0, 0.0
    rows = torch.tensor([3, 0, 1, 2, 0])
    for step in range(5):
        gradient = torch.zeros(4, 3).index_add(0, rows, 2 * (table[rows] - step))
        total = total + gradient**2
        velocity = 0.3 * velocity - 0.1 * gradient / (total + 1e-6).sqrt()
        table = table + velocity
    torch.testing.assert_close(after_steps(True, "adagrad", momentum=0.3), table)


def test_momentum_rests_while_a_row_has_no_gradient() -> None:
    table = torch.nn.Parameter(torch.zeros(2, 1))
    optimizer = RowOptimizer([table], "sgd", 1.0, momentum=0.5)
    for row in (0, 1, 0):
        lookups = RowLookups()
        lookups.take(table, torch.tensor([row])).sum().backward()
        lookups.set_gradients()
        optimizer.step()
    assert table.tolist() == [[-2.5], [-1.0]]  # 1, then 1 + 0.5; and 1


def test_lookups_sum_what_was_taken_twice() -> None:
    table, bias = torch.nn.Parameter(torch.ones(6, 2)), torch.nn.Parameter(torch.ones(6))
    lookups = RowLookups()
    first = lookups.take(table, torch.tensor([4, 1, 4]))
    second = lookups.take(table, torch.tensor([5, 4]))
    unused = lookups.take(bias, torch.tensor([0, 3]), increasing=True)
    (first.sum() + 10 * second.sum()).backward()
    lookups.set_gradients()
    assert unused.tolist() == [1, 1]
    expected = torch.zeros(6, 2)
    expected[[1, 4, 5]] = torch.tensor([1.0, 12.0, 10.0])[:, None]
    assert torch.equal(table.grad.to_dense(), expected)
    assert table.grad.coalesce().indices().tolist() == [[1, 4, 5]]
    assert bias.grad.coalesce().indices().tolist() == [[0, 3]]


def test_all_parameters_are_optimised_once() -> None:
    for name in ("adam", "adagrad", "sgd"):
        for sparse in (False, True):
            for embedding in ("tied", "separate", "none"):
                model = GRU4Rec(40, embedding=embedding, embedding_dim=8, hidden_size=8)
                optimizers = make_optimizers(model, name, 0.1, sparse=sparse)
                ids = [id(p) for o in optimizers for g in o.param_groups for p in g["params"]]
                assert sorted(ids) == sorted(id(p) for p in model.parameters())
    with pytest.raises(ValueError, match="name is 'lamb'; expected one of adam, adagrad, sgd"):
        make_optimizers(model, "lamb", 0.1)
    with pytest.raises(ValueError, match=r"weight_decay is 0\.1; adagrad expects 0"):
        make_optimizers(model, "adagrad", 0.1, weight_decay=0.1)
    with pytest.raises(ValueError, match=r"momentum is 0\.1; adam expects 0"):
        make_optimizers(model, "adam", 0.1, momentum=0.1)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("x", {}, "name is 'x'; expected one of adam, adagrad, sgd"),
        ("sgd", {"lr": -1}, r"lr is -1\.0; expected 0 or more"),
        ("sgd", {"momentum": 2}, r"momentum is 2\.0; expected 0 or more, below 1"),
        ("sgd", {"weight_decay": 0.1}, r"weight_decay is 0\.1; sgd expects 0"),
        ("adam", {"momentum": 0.1}, r"momentum is 0\.1; adam expects 0"),
        ("adam", {"eps": -1}, r"eps is -1\.0; expected 0 or more"),
    ],
)
def test_options_of_a_row_optimizer_are_checked(name, options, message) -> None:
    table = torch.nn.Parameter(torch.ones(4, 3))
    with pytest.raises(ValueError, match=f"^RowOptimizer: {message}"):
        RowOptimizer([table], name, **{"lr": 0.1, **options})
    if name != "x":
        with pytest.raises(ValueError, match=f"^RowOptimizer: {message}"):
            RowOptimizer([{"params": [table], **options}], name, 0.1)


def test_parameters_that_kernels_cannot_change_are_named() -> None:
    for table, error, message in (
        (torch.ones(4, 3).T, ValueError, r"has shape \(3, 4\) .*; expected a contiguous tensor"),
        (torch.ones(4, 3).half(), TypeError, r"is torch\.float16; expected float32 or float64"),
    ):
        with pytest.raises(error, match=f"^RowOptimizer: a parameter {message}"):
            RowOptimizer([torch.nn.Parameter(table)], "sgd", 0.1)
        later = torch.nn.Parameter(torch.ones(4, 3))
        optimizer = RowOptimizer([later], "adam", 0.1)
        later.data = table
        later.grad = torch.ones_like(later)
        with pytest.raises(error, match=rf"^RowOptimizer\.step: a parameter {message}"):
            optimizer.step()
        assert optimizer.next_step([later]) == 1


@pytest.mark.parametrize("name", ["adam", "adagrad", "sgd"])
def test_autograd_sees_a_step(name) -> None:
    table = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = RowOptimizer([table], name, 0.1)
    product = (table * table).sum()
    table.grad = torch.ones(4, 3)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()
