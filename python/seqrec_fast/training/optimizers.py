"""Optimisers for models whose item tables may have gradients of some rows only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from seqrec_fast.models import GRU4Rec

from .options import OPTIMIZERS


def make_optimizers(
    model: GRU4Rec,
    name: str,
    lr: float,
    weight_decay: float = 0.0,
    momentum: float = 0.0,
    *,
    sparse: bool = False,
) -> list[torch.optim.Optimizer]:
    """
    Return the optimisers that together update all parameters once.

    Parameters
    ----------
    model : GRU4Rec
    name : {"adam", "adagrad", "sgd"}
    lr : float
    weight_decay : float
        Each update shrinks parameters by the share ``lr * weight_decay`` (as
        :class:`torch.optim.AdamW`); with `sparse` the rows that have a gradient. Needs
        ``"adam"``.
    momentum : float
        Of ``"adagrad"`` and ``"sgd"``, see :class:`RowOptimizer`.
    sparse : bool
        Item tables and the bias of the scores will have gradients of some rows.

    Raises
    ------
    ValueError
        If the optimiser is unknown, cannot decay weights or has no momentum.
    """
    if name not in OPTIMIZERS:
        raise ValueError(
            f"make_optimizers: name is {name!r}; expected one of {', '.join(OPTIMIZERS)}"
        )
    if name != "adam" and weight_decay:
        raise ValueError(f"make_optimizers: weight_decay is {weight_decay}; {name} expects 0")
    if name == "adam" and momentum:
        raise ValueError(f"make_optimizers: momentum is {momentum}; adam expects 0")
    parameters = list(model.parameters())
    if name != "adam":
        return [RowOptimizer(parameters, name, lr, momentum=momentum)]
    if not sparse:
        return [torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)]
    of_items = {id(p) for p in (model.input_table, model.item_table, model.output.bias)}
    tables = [p for p in parameters if id(p) in of_items]
    others = [p for p in parameters if id(p) not in of_items]
    return [
        RowOptimizer(tables, name, lr, weight_decay),
        torch.optim.AdamW(others, lr=lr, weight_decay=weight_decay),
    ]


class RowOptimizer(torch.optim.Optimizer):
    """
    Adam, Adagrad or gradient descent on the rows that a sparse gradient has.

    Rows without a gradient stay as they are, and so do their moments and their momentum. A
    dense gradient updates all rows.

    Adagrad is GRU4Rec's: ``sum += g ** 2; v = momentum * v - lr * g / sqrt(sum + eps)``, and v
    is added to the row. `eps` under the root keeps first steps along tiny gradients small.

    Parameters
    ----------
    parameters : iterable of (n, ...) Tensor
    name : {"adam", "adagrad", "sgd"}
    lr : float
    weight_decay : float
        For Adam, see :func:`make_optimizers`.
    momentum : float
        For Adagrad, and for gradient descent (``v = momentum * v - lr * g``).
    betas : (float, float)
        Of Adam.
    eps : float, optional
        By default 1e-8 for Adam, where it is added to the root, and 1e-6 for Adagrad.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        name: str,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
    ) -> None:
        self._update = {"adam": _adam, "adagrad": _adagrad, "sgd": _descent}[name]
        if eps is None:
            eps = 1e-8 if name == "adam" else 1e-6
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(parameters, {**defaults, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient; there is no closure."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, table.grad, self.state[table], group)


class _Rows:
    """A gradient and its rows of tensors that are as large as the parameter."""

    def __init__(self, gradient: Tensor) -> None:
        self._rows: Tensor | None = None
        self.gradient = gradient
        if gradient.is_sparse:
            gradient = gradient.coalesce()
            self._rows, self.gradient = gradient.indices()[0], gradient.values()

    def read(self, table: Tensor) -> Tensor:
        """Return the rows, as a copy if they are not all."""
        return table if self._rows is None else table.index_select(0, self._rows)

    def write(self, table: Tensor, values: Tensor) -> None:
        """Put back what :meth:`read` returned and was changed in place."""
        if self._rows is not None:
            table.index_copy_(0, self._rows, values)

    def add(self, table: Tensor, values: Tensor) -> None:
        """Add to the rows."""
        if self._rows is None:
            table.add_(values)
        else:
            table.index_add_(0, self._rows, values)


def _adam(table: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state.update(step=0, mean=torch.zeros_like(table), square=torch.zeros_like(table))
    state["step"] += 1
    rows = _Rows(grad)
    beta_1, beta_2 = group["betas"]
    mean = rows.read(state["mean"]).lerp_(rows.gradient, 1 - beta_1)
    square = rows.read(state["square"]).mul_(beta_2)
    square.addcmul_(rows.gradient, rows.gradient, value=1 - beta_2)
    rows.write(state["mean"], mean)
    rows.write(state["square"], square)
    correction_1, correction_2 = 1 - beta_1 ** state["step"], 1 - beta_2 ** state["step"]
    root = (square / correction_2).sqrt_().add_(group["eps"])
    values = rows.read(table).mul_(1 - group["lr"] * group["weight_decay"])
    rows.write(table, values.addcdiv_(mean, root, value=-group["lr"] / correction_1))


def _adagrad(table: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    if not state:
        state.update(sum=torch.zeros_like(table))
    rows = _Rows(grad)
    total = rows.read(state["sum"]).addcmul_(rows.gradient, rows.gradient)
    rows.write(state["sum"], total)
    change = (total + group["eps"]).rsqrt_().mul_(rows.gradient)
    _descend(rows, change, table, state, group)


def _descent(table: Tensor, grad: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
    rows = _Rows(grad)
    _descend(rows, rows.gradient, table, state, group)


def _descend(
    rows: _Rows, slope: Tensor, table: Tensor, state: dict[str, Any], group: dict[str, Any]
) -> None:
    """Take a step down the slope, with momentum if there is one."""
    velocity = slope * -group["lr"]
    if group["momentum"]:
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(table)
        velocity = rows.read(state["momentum"]).mul_(group["momentum"]).add_(velocity)
        rows.write(state["momentum"], velocity)
    rows.add(table, velocity)
