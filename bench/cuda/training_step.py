"""A whole step of training GRU4Rec against sampled negatives: lookups, layer, loss, updates."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast.models import GRU4Rec
from seqrec_fast.nn import functional as F
from seqrec_fast.training import RowLookups, RowOptimizer

_LR = 0.01


def training_step(n_items: int, *, device: str, small: bool) -> dict[str, Callable[[], Tensor]]:
    """Compare with ``torch.nn.GRU``, sparse embeddings, all logits of a batch, and SparseAdam."""
    batch, steps, width, n_negatives = (6, 4, 8, 10) if small else (512, 20, 128, 2048)
    n_items = 60 if small else n_items
    torch.manual_seed(0)
    model = GRU4Rec(n_items, embedding_dim=width, hidden_size=width, dropout_embedding=0,
                    dropout_hidden=0).to(device)  # fmt: skip
    items, targets = torch.randint(n_items, (2, batch * steps), device=device)
    negatives = torch.randint(n_items, (n_negatives,), device=device)
    return {
        "ours": _ours(model, items, targets, negatives, batch),
        "torch.nn.GRU, SparseAdam": _peer(model, items, targets, negatives, batch),
    }


def _ours(
    model: GRU4Rec, items: Tensor, targets: Tensor, negatives: Tensor, batch: int
) -> Callable[[], Tensor]:
    optimizer = RowOptimizer(model.parameters(), "adam", _LR)
    offsets = torch.arange(0, len(items) + 1, len(items) // batch, device=items.device)
    among, places = torch.unique(torch.cat([targets, negatives]), return_inverse=True)
    own, others = places[: len(targets)], places[len(targets) :]

    def step() -> Tensor:
        optimizer.zero_grad()
        lookups = RowLookups()
        hidden, _ = model.run(lookups.take(model.input_table, items), offsets)
        weight = lookups.take(model.item_table, among, increasing=True)
        bias = lookups.take(model.output.bias, among, increasing=True)
        loss = F.sampled_softmax_loss(hidden, weight, own, others, bias, collisions="keep")
        loss.backward()
        lookups.set_gradients()
        optimizer.step()
        return loss

    return step


def _peer(
    model: GRU4Rec, items: Tensor, targets: Tensor, negatives: Tensor, batch: int
) -> Callable[[], Tensor]:
    table = model.item_table.detach().clone().requires_grad_()
    bias = model.output.bias.detach().clone()[:, None].requires_grad_()
    width = table.shape[1]
    layer = torch.nn.GRU(width, width, batch_first=True).to(items.device)
    layer.load_state_dict(model.rnn.state_dict())
    optimizers = [
        torch.optim.SparseAdam([table, bias], lr=_LR),
        torch.optim.Adam(layer.parameters(), lr=_LR),
    ]

    def rows(of: Tensor, ids: Tensor) -> Tensor:
        return functional.embedding(ids, of, sparse=True)

    def step() -> Tensor:
        for optimizer in optimizers:
            optimizer.zero_grad()
        hidden = layer(rows(table, items).view(batch, -1, width))[0].reshape(-1, width)
        own = (hidden * rows(table, targets)).sum(1, keepdim=True) + rows(bias, targets)
        others = hidden @ rows(table, negatives).t() + rows(bias, negatives)[:, 0]
        first = torch.zeros_like(targets)
        loss = functional.cross_entropy(torch.cat([own, others], 1), first)
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        return loss

    return step
