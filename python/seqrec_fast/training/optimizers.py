"""Optimisers for models whose item tables may have gradients of some rows only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from seqrec_fast._checks import check_choice
from seqrec_fast.models import NextItemModel
from seqrec_fast.nn._devices import run
from seqrec_fast.nn.row_update import check_table, checked_rule

from .options import OPTIMIZERS
from .rows import summed_rows


def make_optimizers(
    model: NextItemModel,
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
    model : GRU4Rec or ThemeMixture
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
    check_choice("make_optimizers", "name", name, OPTIMIZERS)
    if name != "adam" and weight_decay:
        raise ValueError(f"make_optimizers: weight_decay is {weight_decay}; {name} expects 0")
    if name == "adam" and momentum:
        raise ValueError(f"make_optimizers: momentum is {momentum}; adam expects 0")
    parameters = list(model.parameters())
    if name != "adam":
        return [RowOptimizer(parameters, name, lr, momentum=momentum)]
    if not sparse:
        return [torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay)]
    return [RowOptimizer(parameters, name, lr, weight_decay)]


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

    Raises
    ------
    ValueError
        If an option is unknown, out of range or of another rule, or a parameter is not contiguous.
    TypeError
        If a parameter is neither float32 nor float64, or an option has another type.
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
        check_choice("RowOptimizer", "name", name, OPTIMIZERS)
        self._name = name
        if eps is None:
            eps = 1e-8 if name == "adam" else 1e-6
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(parameters, {**defaults, "betas": betas, "eps": eps})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, with options of their own where the group has some."""
        group = {**self.defaults, **param_group}
        names = ("lr", "weight_decay", "momentum", "betas", "eps")
        options = checked_rule("RowOptimizer", self._name, *(group[name] for name in names))
        if self._name != "adam" and options["weight_decay"]:
            raise ValueError(
                f"RowOptimizer: weight_decay is {options['weight_decay']}; {self._name} expects 0"
            )
        super().add_param_group({**group, **options})
        try:
            for table in self.param_groups[-1]["params"]:
                check_table("RowOptimizer", "a parameter", table)
        except (TypeError, ValueError):
            del self.param_groups[-1]
            raise

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update the rows that have a gradient; there is no closure."""
        for group in self.param_groups:
            for table in group["params"]:
                if table.grad is not None:
                    self._update(table, table.grad, group)

    def moments(self, table: Tensor, momentum: float) -> tuple[Tensor | None, Tensor | None]:
        """
        Return what is kept of a parameter, zeros at first.

        Returns
        -------
        mean : Tensor or None
            Adam's mean of the gradients; else the last step, where there is momentum.
        square : Tensor or None
            Adam's mean of the squares, Adagrad's sum of them.
        """
        state, adam = self.state[table], self._name == "adam"
        names = (
            "mean" if adam else "momentum" if momentum else None,
            "square" if adam else "sum" if self._name == "adagrad" else None,
        )
        for name in names:
            if name is not None and name not in state:
                state[name] = torch.zeros_like(table, memory_format=torch.contiguous_format)
        mean, square = (None if name is None else state[name] for name in names)
        return mean, square

    def next_step(self, tables: Iterable[Tensor]) -> int:
        """Return the number, from 1, of the next step of these parameters."""
        return max((self.state[table].get("step", 0) for table in tables), default=0) + 1

    def count(self, tables: Iterable[Tensor], step: int) -> None:
        """Note that a step was made, and tell autograd that the parameters have changed."""
        for table in tables:
            self.state[table]["step"] = step
            increment_version(table)

    def rule(self, group: dict[str, Any], step: int, *moments: Any) -> tuple[Any, ...]:
        """Return an update as the kernels take it."""
        return (
            self._name, group["lr"], group["weight_decay"], group["momentum"], *group["betas"],
            group["eps"], step, *(moments or (None, None)),
        )  # fmt: skip

    def _update(self, table: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        check_table("RowOptimizer.step", "a parameter", table)  # it may have been converted
        # A dense gradient is one long row.
        if grad.is_sparse:
            rows, (ids, values) = len(table), summed_rows(grad)
        else:
            rows, ids, values = 1, torch.zeros(1, dtype=torch.int64, device=table.device), grad
        moments = (
            None if m is None else m.view(rows, -1) for m in self.moments(table, group["momentum"])
        )
        step = self.next_step([table])
        run(
            "update_rows", table.dtype, table, self.rule(group, step, *moments), ids,
            values.contiguous().view(len(ids), -1), table.detach().view(rows, -1),
        )  # fmt: skip
        self.count([table], step)
