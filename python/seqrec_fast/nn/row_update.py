"""Optimiser steps on rows of a table, without a gradient of the table's size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import increment_version

from seqrec_fast._checks import check_choice, checked_int, checked_number

from . import _devices
from ._checks import check_dtype, check_tensor

_RULES = ("sgd", "adagrad", "adam")
_EPS = {"sgd": 0.0, "adagrad": 1e-20, "adam": 1e-8}
_STATE = ("rule", "lr", "steps", "mean", "square")


def checked_rule(
    function: str,
    rule: str,
    lr: float,
    weight_decay: float,
    momentum: float,
    betas: tuple[float, float],
    eps: float,
) -> dict[str, Any]:
    """Return the options of a rule, under their names, as floats inside their ranges."""
    found: dict[str, Any] = {}
    for name, value in (("lr", lr), ("weight_decay", weight_decay), ("eps", eps)):
        found[name] = number = checked_number(function, name, value, finite=True)
        if number < 0:
            raise ValueError(f"{function}: {name} is {number}; expected 0 or more")
    if not isinstance(betas, tuple | list) or len(betas) != 2:
        raise TypeError(f"{function}: betas is {betas!r}; expected two numbers")
    shares = []
    for name, value in (("momentum", momentum), ("betas[0]", betas[0]), ("betas[1]", betas[1])):
        shares.append(checked_number(function, name, value))
        if not 0 <= shares[-1] < 1:
            raise ValueError(f"{function}: {name} is {shares[-1]}; expected 0 or more, below 1")
    if rule == "adam" and shares[0]:
        raise ValueError(f"{function}: momentum is {shares[0]}; adam expects 0")
    return {**found, "momentum": shares[0], "betas": (shares[1], shares[2])}


def check_table(function: str, argument: str, table: Tensor) -> None:
    """Raise unless the kernels can change the tensor in place."""
    check_tensor(function, argument, table)
    if table.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"{function}: {argument} is {table.dtype}; expected float32 or float64")
    if not table.is_contiguous():
        raise ValueError(
            f"{function}: {argument} has shape {tuple(table.shape)} but gaps between its values or "
            "another order; expected a contiguous tensor"
        )


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
        Of the steps of SGD and Adagrad: ``v = momentum * v + step``, then ``row += v``. Adam has
        none.
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
        If the table has another dtype, or an option another type.
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
        check_choice("RowUpdate", "rule", rule, _RULES)
        check_tensor("RowUpdate", "table", table)
        if table.dim() != 2:
            raise ValueError(f"RowUpdate: table has shape {tuple(table.shape)}; expected (n, d)")
        check_table("RowUpdate", "table", table)
        eps = _EPS[rule] if eps is None else eps
        options = checked_rule("RowUpdate", rule, lr, weight_decay, momentum, betas, eps)
        self.table, self.rule = table, rule
        self.lr: float = options["lr"]
        self.weight_decay: float = options["weight_decay"]
        self.momentum: float = options["momentum"]
        self.betas: tuple[float, float] = options["betas"]
        self.eps: float = options["eps"]
        #: Steps made so far.
        self.steps = 0
        with_mean = rule == "adam" or self.momentum != 0
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
            If ids are not ascending or out of range, or the shapes do not fit. Nothing is changed
            then.
        TypeError
            If ids are not int64 or the gradients not of the table's dtype.
        """
        check_dtype("RowUpdate.step", "ids", ids, torch.int64)
        check_dtype("RowUpdate.step", "gradients", gradients, self.table.dtype)
        _devices.run(
            "update_rows", self.table.dtype, self.table, self.next_rule(), ids, gradients,
            self.table,
        )  # fmt: skip
        self.count()

    def next_rule(self) -> tuple[Any, ...]:
        """Return what the kernels want to know of the next step."""
        return (
            self.rule, self.lr, self.weight_decay, self.momentum, *self.betas, self.eps,
            self.steps + 1, self.mean, self.square,
        )  # fmt: skip

    def count(self) -> None:
        """Count a step that was made, and tell autograd that the table has changed."""
        self.steps += 1
        increment_version(self.table)

    def state_dict(self) -> dict[str, Any]:
        """
        Return what goes on from step to step.

        Returns
        -------
        dict
            ``rule``, ``lr``, ``steps``, ``mean`` and ``square``; tensors are not copied.
        """
        return {name: getattr(self, name) for name in _STATE}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """
        Go on from what :meth:`state_dict` gave; tensors are copied.

        Raises
        ------
        ValueError
            If something is missing or of another rule, momentum or table. Nothing is changed then.
        """
        name = "RowUpdate.load_state_dict"
        if missing := [key for key in _STATE if key not in state]:
            raise ValueError(f"{name}: state has no {missing[0]!r}; expected {', '.join(_STATE)}")
        if state["rule"] != self.rule:
            raise ValueError(f"{name}: rule is {state['rule']!r}; expected {self.rule!r}")
        lr = checked_number(name, "lr", state["lr"], finite=True)
        steps = checked_int(name, "steps", state["steps"])
        for key in ("mean", "square"):
            was, now = (
                None if m is None else tuple(m.shape) for m in (state[key], getattr(self, key))
            )
            if was != now:
                raise ValueError(f"{name}: {key} has shape {was}; expected {now}")
        self.lr, self.steps = lr, steps
        for key in ("mean", "square"):
            if state[key] is not None:
                getattr(self, key).copy_(state[key])

    def __repr__(self) -> str:
        options = "".join(
            f", {name}={getattr(self, name)}"
            for name in ("lr", "weight_decay", "momentum", "betas", "eps")
        )
        return f"RowUpdate(table of shape {tuple(self.table.shape)}, {self.rule!r}{options})"
