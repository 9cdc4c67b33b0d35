"""What the losses over an item table share: checks of arguments, and dtypes."""

from __future__ import annotations

import torch
from torch import Tensor

_REDUCTIONS = ("mean", "sum", "none")


def as_working(tensor: Tensor, like: Tensor) -> Tensor:
    """Return the tensor in float64 if `like` is, else in float32."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def check_reduction(name: str, reduction: str) -> None:
    """Raise ValueError for an unknown reduction."""
    if reduction not in _REDUCTIONS:
        raise ValueError(
            f"{name}: reduction is {reduction!r}; expected one of {', '.join(_REDUCTIONS)}"
        )


def check_tables(
    name: str, hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None
) -> None:
    """Raise unless shapes and dtypes fit each other."""
    if target.shape != hidden.shape[:-1]:
        raise ValueError(
            f"{name}: target has shape {tuple(target.shape)}; expected {tuple(hidden.shape[:-1])}"
        )
    if target.dtype != torch.int64:
        raise TypeError(f"{name}: target is {target.dtype}; expected int64")
    if weight.dim() != 2 or weight.shape[1] != hidden.shape[-1]:
        raise ValueError(
            f"{name}: weight has shape {tuple(weight.shape)}; expected "
            f"(n_items, {hidden.shape[-1]})"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ValueError(
            f"{name}: bias has shape {tuple(bias.shape)}; expected ({weight.shape[0]},)"
        )


def check_targets(name: str, target: Tensor, n_items: int, ignore_index: int) -> None:
    """Raise ValueError for a target that is no item."""
    wrong = ((target < 0) | (target >= n_items)) & (target != ignore_index)
    if wrong.any():
        first = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"{name}: target {first} is {int(target[first])}; expected 0 to {n_items - 1} or "
            f"ignore_index {ignore_index}"
        )
