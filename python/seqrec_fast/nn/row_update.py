"""Optimiser steps on rows of a table, without a gradient of the table's size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _devices

_RULES = ("sgd", "adagrad", "adam")
_EPS = {"sgd": 0.0, "adagrad": 1e-20, "adam": 1e-8}


class RowUpdate:
    """
    SGD, Adagrad or Adam on some rows of a table, or on all of them inside a loss.

    Rows without a gradient stay as they are, and so do their moments (lazy Adam).

    Parameters
    ----------
    table : (n, d) float32 or float64 Tensor
        Contiguous; is changed in place.
    rule : {"sgd", "adagrad", "adam"}
    lr : float
        Learning rate; the attribute may be changed between steps.
    weight_decay : float
        Each step shrinks its rows by the share ``lr * weight_decay``.
    momentum : float
        Of the steps of SGD and Adagrad: ``v = momentum * v + step``, then ``row += v``.
    betas : (float, float)
        Of Adam.
    eps : float, optional
        Adam: added to the root, by default 1e-8. Adagrad: under the root, by default 1e-20 (as
        1e-10 beside it); GRU4Rec has 1e-6 there.

    Raises
    ------
    ValueError
        If an argument is out of range or the table is not contiguous.
    TypeError
        If the table has another dtype.
    """

    def __init__(
        self,
        table: Tensor,
        rule: str = "adagrad",
        *,
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float | None = None,
    ) -> None:
        if rule not in _RULES:
            raise ValueError(f"RowUpdate: rule is {rule!r}; expected one of {', '.join(_RULES)}")
        if table.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"RowUpdate: table is {table.dtype}; expected float32 or float64")
        if table.dim() != 2 or not table.is_contiguous():
            raise ValueError(
                f"RowUpdate: table has shape {tuple(table.shape)}; expected two dimensions, "
                "contiguous"
            )
        if not lr >= 0 or not weight_decay >= 0:
            raise ValueError(
                f"RowUpdate: lr is {lr} and weight_decay {weight_decay}; expected 0 or more"
            )
        for name, value in (("momentum", momentum), ("beta_1", betas[0]), ("beta_2", betas[1])):
            if not 0 <= value < 1:
                raise ValueError(f"RowUpdate: {name} is {value}; expected 0 or more, below 1")
        self.table, self.rule, self.lr = table, rule, lr
        self.weight_decay, self.momentum, self.betas = weight_decay, momentum, betas
        self.eps = _EPS[rule] if eps is None else eps
        #: Steps made so far.
        self.steps = 0
        with_mean = rule == "adam" or momentum != 0
        #: (n, d): mean of the gradients (Adam) or of the steps (momentum); None without.
        self.mean = torch.zeros_like(table) if with_mean else None
        #: (n, d): sum (Adagrad) or mean (Adam) of the gradients' squares; None for SGD.
        self.square = torch.zeros_like(table) if rule != "sgd" else None

    def step(self, ids: Tensor, gradients: Tensor) -> None:
        """
        Update some rows.

        Parameters
        ----------
        ids : (m,) int64 Tensor
            Ascending, each once; on a GPU that is not looked at.
        gradients : (m, d) Tensor

        Raises
        ------
        ValueError
            If ids are not ascending or out of range, or the shapes do not fit.
        """
        _devices.run(
            "update_rows", self.table.dtype, self.table, self._next(), ids, gradients, self.table
        )

    def _next(self) -> tuple[Any, ...]:
        """Count a step, and return what the kernels want to know of it."""
        self.steps += 1
        return (
            self.rule, self.lr, self.weight_decay, self.momentum, *self.betas, self.eps,
            self.steps, self.mean, self.square,
        )  # fmt: skip
