"""Adagrad and Adam for models whose item tables may have sparse gradients."""

from __future__ import annotations

import torch

from seqrec_fast.models import GRU4Rec

from .options import OPTIMIZERS


def make_optimizers(model: GRU4Rec, name: str, lr: float) -> list[torch.optim.Optimizer]:
    """
    Return the optimisers that together update all parameters once.

    With ``model.sparse_gradients`` the item tables are updated where rows were looked up: by
    :class:`torch.optim.SparseAdam`, whose moments of the other rows stand still, and by
    :class:`torch.optim.Adagrad`, for which that is no different from the dense update.

    Parameters
    ----------
    model : GRU4Rec
    name : {"adam", "adagrad"}
    lr : float

    Raises
    ------
    ValueError
        If the optimiser is unknown.
    """
    if name == "adagrad":
        return [torch.optim.Adagrad(model.parameters(), lr=lr)]
    if name != "adam":
        raise ValueError(
            f"make_optimizers: name is {name!r}; expected one of {', '.join(OPTIMIZERS)}"
        )
    if not model.sparse_gradients:
        return [torch.optim.Adam(model.parameters(), lr=lr)]
    tables = [p for p in model.parameters() if p is model.input_table or p is model.item_table]
    others = [p for p in model.parameters() if all(p is not table for table in tables)]
    return [torch.optim.SparseAdam(tables, lr=lr), torch.optim.Adam(others, lr=lr)]
