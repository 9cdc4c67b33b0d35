"""Checks of tensors: what came, and what was expected."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def check_tensor(function: str, argument: str, value: Any) -> None:
    """Raise TypeError for what is no tensor, such as an array."""
    if not isinstance(value, Tensor):
        kind = f"{type(value).__module__}.{type(value).__name__}".removeprefix("builtins.")
        raise TypeError(f"{function}: {argument} is {kind}; expected a torch.Tensor")


def check_dtype(function: str, argument: str, tensor: Tensor, dtype: torch.dtype) -> None:
    """Raise TypeError unless it is a tensor of the dtype."""
    check_tensor(function, argument, tensor)
    if tensor.dtype != dtype:
        expected = str(dtype).removeprefix("torch.")
        raise TypeError(f"{function}: {argument} is {tensor.dtype}; expected {expected}")


def check_floating(function: str, argument: str, tensor: Tensor) -> None:
    """Raise TypeError unless it is a tensor of a floating type."""
    check_tensor(function, argument, tensor)
    if not tensor.is_floating_point():
        raise TypeError(f"{function}: {argument} is {tensor.dtype}; expected a floating type")


def check_shape(function: str, argument: str, tensor: Tensor, *expected: int | str) -> None:
    """Raise ValueError unless the shape is the expected one; letters stand for any size."""
    if tensor.dim() != len(expected) or any(
        not isinstance(size, str) and tensor.shape[i] != size for i, size in enumerate(expected)
    ):
        raise ValueError(
            f"{function}: {argument} has shape {tuple(tensor.shape)}; expected {shown(*expected)}"
        )


def check_rows(function: str, argument: str, tensor: Tensor) -> None:
    """Raise ValueError for a number without a dimension."""
    if tensor.dim() < 1:
        raise ValueError(f"{function}: {argument} has shape (); expected (N, ...)")


def shown(*shape: int | str) -> str:
    """Return a shape as messages have it."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def check_offsets(function: str, argument: str, offsets: Tensor, parts: int | str) -> None:
    """Raise unless it is an int64 vector for so many parts; a letter stands for any number."""
    check_dtype(function, argument, offsets, torch.int64)
    if isinstance(parts, str):
        if offsets.dim() != 1 or offsets.shape[0] < 1:
            raise ValueError(
                f"{function}: {argument} has shape {tuple(offsets.shape)}; expected ({parts} + 1,)"
            )
        return
    check_shape(function, argument, offsets, parts + 1)


def check_partition(
    function: str, argument: str, offsets: Tensor, rows: int, what: str = "rows"
) -> None:
    """
    Raise ValueError unless the offsets part so many rows.

    Not in a compiled graph, which cannot look at values, nor on a GPU, for which the host would
    wait.
    """
    if torch.compiler.is_compiling() or offsets.is_cuda:
        return
    limits = offsets.detach()
    if int(limits[0]) != 0:
        raise ValueError(f"{function}: {argument}[0] is {int(limits[0])}; expected 0")
    lengths = limits.diff()
    if len(lengths) and int(lengths.min()) < 0:
        at = int((lengths < 0).nonzero()[0, 0])
        raise ValueError(
            f"{function}: {argument} decreases from {int(limits[at])} to {int(limits[at + 1])} at "
            f"index {at + 1}"
        )
    if int(limits[-1]) != rows:
        raise ValueError(
            f"{function}: {argument} ends at {int(limits[-1])}; expected {rows}, the number of "
            f"{what}"
        )


def check_ids(function: str, argument: str, ids: Tensor, count: int) -> None:
    """Raise ValueError for an id that is neither -1 nor below the count; see check_partition."""
    if torch.compiler.is_compiling() or ids.is_cuda or not ids.numel():
        return
    least, most = torch.stack(ids.aminmax()).tolist()
    if least < -1 or most >= count:
        raise ValueError(
            f"{function}: {argument} holds {least if least < -1 else most}; expected -1 to "
            f"{count - 1}"
        )


def check_bias_and_mask(
    function: str, bias: Tensor | None, mask: Tensor | None, rows: int, experts: int
) -> None:
    """Raise unless they fit a gate of so many rows and experts."""
    if bias is not None:
        check_tensor(function, "bias", bias)
        check_shape(function, "bias", bias, experts)
    if mask is None:
        return
    check_dtype(function, "mask", mask, torch.bool)
    if mask.shape not in ((experts,), (rows, experts)):
        raise ValueError(
            f"{function}: mask has shape {tuple(mask.shape)}; expected ({experts},) or ({rows}, "
            f"{experts})"
        )
