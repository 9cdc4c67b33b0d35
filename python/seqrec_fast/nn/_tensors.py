"""What operators do with tensors before kernels see them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def array(tensor: Tensor | None) -> Any:
    """Return the contiguous array of a tensor."""
    return None if tensor is None else tensor.detach().contiguous().numpy()


def working(tensor: Tensor) -> Tensor:
    """Return the tensor in the dtype of the arithmetic: float64 for float64, else float32."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def autocast_precision(device_type: str = "cpu") -> str:
    """Return the kernels' name for the precision of products that autocast asks for."""
    if (
        torch.is_autocast_enabled(device_type)
        and torch.get_autocast_dtype(device_type) == torch.bfloat16
    ):
        return "bfloat16"
    return "full"
