"""Adagrad and Adam for models whose item tables may have sparse gradients."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from seqrec_fast.models import GRU4Rec

from .options import OPTIMIZERS


def make_optimizers(
    model: GRU4Rec, name: str, lr: float, weight_decay: float = 0.0
) -> list[torch.optim.Optimizer]:
    """
    Return the optimisers that together update all parameters once.

    With ``model.sparse_gradients`` the item tables are updated in the rows that were looked up,
    by :class:`RowOptimizer`; everything else is up to PyTorch.

    Parameters
    ----------
    model : GRU4Rec
    name : {"adam", "adagrad"}
    lr : float
    weight_decay : float
        Each update shrinks parameters by the share ``lr * weight_decay`` (as
        :class:`torch.optim.AdamW`); with sparse gradients the rows that were looked up. Needs
        ``"adam"``.

    Raises
    ------
    ValueError
        If the optimiser is unknown, or cannot decay weights.
    """
    if name not in OPTIMIZERS:
        raise ValueError(
            f"make_optimizers: name is {name!r}; expected one of {', '.join(OPTIMIZERS)}"
        )
    if name == "adagrad" and weight_decay:
        raise ValueError(f"make_optimizers: weight_decay is {weight_decay}; adagrad expects 0")
    parameters = list(model.parameters())
    optimizers: list[torch.optim.Optimizer] = []
    if model.sparse_gradients:
        tables = [p for p in parameters if p is model.input_table or p is model.item_table]
        parameters = [p for p in parameters if all(p is not table for table in tables)]
        optimizers.append(RowOptimizer(tables, name, lr, weight_decay))
    if name == "adagrad":
        return [*optimizers, torch.optim.Adagrad(parameters, lr=lr)]
    return [*optimizers, torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)]


class RowOptimizer(torch.optim.Optimizer):
    """
    Adam or Adagrad on the rows of tables that a sparse gradient has.

    Rows without a gradient stay as they are, and so do their moments: lazy Adam. For Adagrad
    that is no different from the dense update.

    Parameters
    ----------
    parameters : iterable of (n, d) Tensor
    name : {"adam", "adagrad"}
    lr : float
    weight_decay : float
        For Adam, see :func:`make_optimizers`.
    betas, eps
        Of Adam, as in :class:`torch.optim.Adam`; Adagrad has no other parameters.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        name: str,
        lr: float,
        weight_decay: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        self._adam = name == "adam"
        super().__init__(
            parameters, {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient; there is no closure."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    gradient = table.grad.coalesce()
                    rows, values = gradient.indices()[0], gradient.values()
                    update = self._adam_step if self._adam else self._adagrad_step
                    table.index_copy_(0, rows, update(table, rows, values, group))

    def _adam_step(
        self, table: Tensor, rows: Tensor, gradient: Tensor, group: dict[str, Any]
    ) -> Tensor:
        state = self.state[table]
        if not state:
            state.update(step=0, mean=torch.zeros_like(table), square=torch.zeros_like(table))
        state["step"] += 1
        beta_1, beta_2 = group["betas"]
        mean = state["mean"][rows].lerp_(gradient, 1 - beta_1)
        square = state["square"][rows].mul_(beta_2).addcmul_(gradient, gradient, value=1 - beta_2)
        state["mean"].index_copy_(0, rows, mean)
        state["square"].index_copy_(0, rows, square)
        correction_1, correction_2 = 1 - beta_1 ** state["step"], 1 - beta_2 ** state["step"]
        root = square.div_(correction_2).sqrt_().add_(group["eps"])
        values = table[rows].mul_(1 - group["lr"] * group["weight_decay"])
        return values.addcdiv_(mean, root, value=-group["lr"] / correction_1)

    def _adagrad_step(
        self, table: Tensor, rows: Tensor, gradient: Tensor, group: dict[str, Any]
    ) -> Tensor:
        state = self.state[table]
        if not state:
            state.update(sum=torch.zeros_like(table))
        total = state["sum"][rows].addcmul_(gradient, gradient)
        state["sum"].index_copy_(0, rows, total)
        return table[rows].addcdiv_(gradient, total.sqrt_().add_(1e-10), value=-group["lr"])
