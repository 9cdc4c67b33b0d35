from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from seqrec_fast.models import GRU4Rec
from seqrec_fast.training import (
    NegativeSampler,
    RowOptimizer,
    cross_entropy,
    losses,
    make_optimizers,
    sampled_cross_entropy,
)

N = 40


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def new_model(**options) -> GRU4Rec:
    return GRU4Rec(N, **{"embedding_dim": 8, "hidden_size": 8, "seed": 0, **options})


@pytest.mark.parametrize("chunk", [1, 100, 1 << 18])
def test_cross_entropy_equals_torch(monkeypatch, chunk) -> None:
    monkeypatch.setattr(losses, "_CHUNK_LOGITS", chunk)
    torch.manual_seed(0)
    tensors = [torch.randn(s, dtype=torch.float64) for s in ((11, 5), (30, 5), (30,))]
    targets = torch.randint(30, (11,))
    results = []
    for formula in (cross_entropy, lambda h, w, b, t: functional.cross_entropy(h @ w.T + b, t)):
        leaves = [t.clone().requires_grad_() for t in tensors]
        loss = formula(*leaves, targets)
        (3 * loss).backward()
        results.append([loss, *(leaf.grad for leaf in leaves)])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_cross_entropy_gradients() -> None:
    torch.manual_seed(0)
    shapes = ((4, 3), (6, 3), (6,))
    leaves = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    shift = torch.randn(4, dtype=torch.float64)
    targets = torch.tensor([5, 0, 0, 2])
    assert torch.autograd.gradcheck(lambda *x: cross_entropy(*x, targets, shift), leaves)


def test_cross_entropy_of_a_hopeless_target_is_finite() -> None:
    hidden, weight = torch.tensor([[1.0]]), torch.tensor([[500.0], [0.0]])
    assert cross_entropy(hidden, weight, torch.zeros(2), torch.tensor([1])).item() == 500


def obvious_sampled_loss(logits, targets, drawn, logq, in_batch, additional, n_sample):
    """GRU4Rec's loss, one event after another: accidental hits are left out."""
    total = 0.0
    for event, target in enumerate(targets.tolist()):
        terms = [logits[event, target]]
        for item in [*targets.tolist(), *drawn.tolist()]:
            if item != target:
                expected = len(targets) * in_batch[item] + n_sample * additional[item]
                terms.append(logits[event, item] - logq * np.log(expected))
        total = total + torch.stack(terms).logsumexp(0) - logits[event, target]
    return total / len(targets)


@pytest.mark.parametrize("logq", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("embedding", ["tied", "separate"])
def test_sampled_loss_equals_the_obvious_program(logq, embedding) -> None:
    counts = np.arange(1, N + 1)
    sampler = NegativeSampler(counts, 25, alpha=0.5, logq=logq)
    targets = torch.tensor([3, 39, 3, 20, 7])
    drawn = sampler.draw(rng())
    assert set(drawn.tolist()) & set(targets.tolist())  # an accidental hit, and
    assert len(set(drawn.tolist())) < 25  # an item that is drawn twice
    hidden = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    results = []
    for ours in (True, False):
        model = new_model(embedding=embedding)
        model.sparse_gradients = ours
        h = hidden.clone().requires_grad_()
        if ours:
            loss = sampled_cross_entropy(model, h, sampler.candidates(targets, rng()))
        else:
            shares = counts / counts.sum(), counts**0.5 / (counts**0.5).sum()
            loss = obvious_sampled_loss(model.scores(h), targets, drawn, logq, *shares, 25)
        loss.backward()
        table, bias = model.item_table.grad.to_dense(), model.output.bias.grad
        results.append([loss, h.grad, table, bias])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_sampled_loss_touches_the_candidates_only() -> None:
    model = new_model()
    model.sparse_gradients = True
    candidates = NegativeSampler(np.ones(N), 3).candidates(torch.tensor([5, 6]), rng())
    sampled_cross_entropy(model, torch.randn(2, 8), candidates).backward()
    rows = model.item_table.grad.coalesce().indices()[0]
    assert rows.tolist() == candidates.items.tolist()
    assert len(rows) <= 5


def test_sampled_loss_estimates_the_full_one() -> None:
    model = new_model()
    torch.nn.init.normal_(model.item_table)
    hidden = torch.randn(200, 8, generator=torch.Generator().manual_seed(1))
    targets = torch.from_numpy(rng().integers(0, N, 200))
    counts = np.bincount(targets.numpy(), minlength=N)
    sampler = NegativeSampler(counts, 3000, alpha=0.5)
    full = cross_entropy(hidden, model.item_table, model.output.bias, targets)
    sampled = sampled_cross_entropy(model, hidden, sampler.candidates(targets, rng()))
    assert sampled.item() == pytest.approx(full.item(), rel=0.01)


def test_negatives_are_drawn_by_popularity() -> None:
    sampler = NegativeSampler([16, 0, 1, 4], 100_000, alpha=0.5)
    share = np.bincount(sampler.draw(rng()).numpy(), minlength=4) / 100_000
    np.testing.assert_allclose(share, [4 / 7, 0, 1 / 7, 2 / 7], atol=0.01)
    uniform = NegativeSampler([16, 0, 1, 4], 1, alpha=0)
    np.testing.assert_allclose(uniform.probability, [1 / 3, 0, 1 / 3, 1 / 3])
    with pytest.raises(ValueError, match="alpha is 2; expected 0 to 1"):
        NegativeSampler([1], 1, alpha=2)
    with pytest.raises(ValueError, match="n_sample is 0"):
        NegativeSampler([1], 0)
    with pytest.raises(ValueError, match="counts must be"):
        NegativeSampler([0, 0], 1)


@pytest.mark.parametrize(("name", "weight_decay"), [("adam", 0.0), ("adam", 0.1), ("adagrad", 0.0)])
def test_row_optimizer_equals_torch_where_all_rows_have_a_gradient(name, weight_decay) -> None:
    torch_optimizer = torch.optim.AdamW if name == "adam" else torch.optim.Adagrad
    results = []
    for sparse in (True, False):
        table = torch.nn.Parameter(torch.linspace(-1, 1, 12).reshape(4, 3))
        if sparse:
            optimizer = RowOptimizer([table], name, 0.1, weight_decay)
        else:
            optimizer = torch_optimizer([table], lr=0.1, weight_decay=weight_decay)
        for step in range(5):
            rows = torch.tensor([3, 0, 1, 2, 0])
            optimizer.zero_grad()
            (functional.embedding(rows, table, sparse=sparse) - step).square().sum().backward()
            optimizer.step()
        results.append(table.detach())
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", ["adam", "adagrad"])
def test_row_optimizer_leaves_other_rows_alone(name) -> None:
    table = torch.nn.Parameter(torch.ones(5, 2))
    optimizer = RowOptimizer([table], name, 0.1, weight_decay=0.1)
    for rows in ([1, 3], [3]):
        optimizer.zero_grad()
        functional.embedding(torch.tensor(rows), table, sparse=True).sum().backward()
        optimizer.step()
    assert (table[[0, 2, 4]] == 1).all()
    assert (table[3] < table[1]).all()
    assert (table[1] < 1).all()


def test_all_parameters_are_optimised_once() -> None:
    for sparse in (False, True):
        for embedding in ("tied", "separate", "none"):
            model = new_model(embedding=embedding)
            model.sparse_gradients = sparse
            groups = [g for o in make_optimizers(model, "adam", 0.1) for g in o.param_groups]
            ids = sorted(id(p) for group in groups for p in group["params"])
            assert ids == sorted(id(p) for p in model.parameters())
    with pytest.raises(ValueError, match="name is 'sgd'; expected one of adam, adagrad"):
        make_optimizers(model, "sgd", 0.1)
    with pytest.raises(ValueError, match="adagrad expects 0"):
        make_optimizers(model, "adagrad", 0.1, weight_decay=0.1)
