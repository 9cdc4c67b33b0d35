"""What the losses over an item table share: checks of arguments, and dtypes."""

from __future__ import annotations

import torch
from torch import Tensor

from seqrec_fast._checks import check_choice

from ._checks import check_dtype, check_shape, check_tensor

_REDUCTIONS = ("mean", "sum", "none")


def as_working(tensor: Tensor, like: Tensor) -> Tensor:
    """Return the tensor in float64 if `like` is, else in float32."""
    dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
    return tensor if tensor.dtype == dtype else tensor.to(dtype)


def check_reduction(name: str, reduction: str) -> None:
    """Raise for an unknown reduction."""
    check_choice(name, "reduction", reduction, _REDUCTIONS)


def check_tables(
    name: str, hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None
) -> None:
    """Raise unless shapes and dtypes fit each other."""
    check_tensor(name, "hidden", hidden)
    check_tensor(name, "weight", weight)
    check_tensor(name, "target", target)
    check_shape(name, "target", target, *hidden.shape[:-1])
    check_dtype(name, "target", target, torch.int64)
    check_shape(name, "weight", weight, "n_items", hidden.shape[-1])
    if bias is not None:
        check_tensor(name, "bias", bias)
        check_shape(name, "bias", bias, weight.shape[0])


def check_targets(name: str, target: Tensor, n_items: int, ignore_index: int) -> None:
    """Raise ValueError for a target that is no item."""
    if target.numel() > 0:
        least, most = torch.aminmax(target)
        if least >= 0 and most < n_items:
            return
    wrong = ((target < 0) | (target >= n_items)) & (target != ignore_index)
    if wrong.any():
        first = int(wrong.nonzero()[0, 0])
        raise ValueError(
            f"{name}: target {first} is {int(target[first])}; expected 0 to {n_items - 1} or "
            f"ignore_index {ignore_index}"
        )
