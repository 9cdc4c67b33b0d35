"""Linear layers over groups of rows on CUDA; `grouped_linear.py` makes operators of them."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _devices


def forward(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    group_offsets: Tensor,
    precision: str = "full",
) -> Tensor:
    """Return each row of x times the transpose of its group's weight, plus bias."""
    y = x.new_empty(x.shape[0], weight.shape[1])
    _devices.run(
        "grouped_linear", x.dtype, x, x, weight.flatten(0, 1), bias, group_offsets, y, precision
    )
    return y


def rounded(factor: Tensor, precision: str) -> Tensor:
    """Return a factor of a product as kernels without that precision take it."""
    return factor if precision == "full" else factor.bfloat16().float()


def weight_grad(
    grad: Tensor,
    x: Tensor,
    group_offsets: Tensor,
    dweight: Tensor | None,
    dbias: Tensor | None,
) -> None:
    """Write (M, O, I) and (M, O) gradients, those that there are; zeros for groups without rows."""
    width_in, width_out = x.shape[1], grad.shape[1]
    if dweight is None:
        # Sums alone need no x.
        x, width_in = x.new_empty(x.shape[0], 0), 0
    sizes = (x.shape[0], width_in, width_out)
    _devices.run(
        "grouped_linear_weight_grad", x.dtype, x,
        x, group_offsets, grad, None if dweight is None else dweight.flatten(0, 1), dbias,
        _devices.workspace("grouped_linear_workspace", x, *sizes, dtype=x.dtype),
    )  # fmt: skip


def backward(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    group_offsets: Tensor,
    dx: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
    precision: str = "full",
) -> None:
    """Write the gradients that there are."""
    if dx is not None:
        transposed = weight.transpose(1, 2).flatten(0, 1)
        _devices.run(
            "grouped_linear", x.dtype, x, grad, transposed, None, group_offsets, dx, precision
        )
    if dweight is not None or dbias is not None:
        factors = rounded(grad, precision), rounded(x, precision)
        weight_grad(*factors, group_offsets, dweight, dbias)


def group_sums(rows: Tensor, group_offsets: Tensor) -> Tensor:
    """Return the sum of each group's rows, (M, D)."""
    sums = rows.new_empty(group_offsets.shape[0] - 1, rows.shape[1])
    weight_grad(rows, rows, group_offsets, None, sums)
    return sums


def group_of_rows(group_offsets: Tensor, rows: int) -> Tensor:
    """Return the (rows,) numbers of the groups that rows belong to."""
    numbers = torch.arange(rows, device=group_offsets.device)
    return torch.bucketize(numbers, group_offsets[1:].contiguous(), right=True)
