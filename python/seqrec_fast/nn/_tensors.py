"""What operators do with tensors before kernels see them."""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor

_Tensor = TypeVar("_Tensor", Tensor, None, Tensor | None)


def array(tensor: Tensor | None) -> Any:
    """Return the contiguous array of a tensor."""
    if tensor is None:
        return None
    # Calls of PyTorch that would change nothing are most of the time of a small layer.
    if tensor.requires_grad:
        tensor = tensor.detach()
    return (tensor if tensor.is_contiguous() else tensor.contiguous()).numpy()


def argument(tensor: _Tensor) -> _Tensor:
    """Return the contiguous tensor: `_core` takes it sooner than an array is made of it."""
    return tensor if tensor is None or tensor.is_contiguous() else tensor.contiguous()


def working(tensor: Tensor) -> Tensor:
    """Return the tensor in the dtype of the arithmetic: float64 for float64, else float32."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def add_at(to: Tensor, places: Tensor, values: Tensor) -> Tensor:
    """Add values to the rows of `to` at places, always in the same order; return `to`."""
    if to.is_cuda:  # index_add has atomic additions there, in any order
        return to.index_put_((places,), values, accumulate=True)
    return to.index_add_(0, places, values)


def autocast_precision(device_type: str = "cpu") -> str:
    """Return the kernels' name for the precision of products that autocast asks for."""
    if (
        torch.is_autocast_enabled(device_type)
        and torch.get_autocast_dtype(device_type) == torch.bfloat16
    ):
        return "bfloat16"
    return "full"


def asked_precision(tensor: Tensor) -> str:
    """Return what autocast asks for on the tensor's device; float64 is always full."""
    if tensor.dtype == torch.float64:
        return "full"
    return autocast_precision("cuda" if tensor.is_cuda else "cpu")


def product(a: Tensor, b: Tensor, precision: str) -> Tensor:
    """
    Return a @ b of matrices or of batches of them.

    In bfloat16 factors are rounded to it and products summed in float32.
    """
    return a @ b if precision == "full" else wide_product(a.bfloat16(), b.bfloat16())


def wide_product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b as `product`; of 16-bit factors in float32."""
    if a.dtype not in (torch.bfloat16, torch.float16):
        return a @ b
    name = "mm" if a.dim() == 2 else "bmm"
    if a.is_cuda and hasattr(getattr(torch.ops.aten, name), "dtype"):
        found: Tensor = getattr(torch, name)(a, b, out_dtype=torch.float32)
        return found
    return a.float() @ b.float()
