"""Cross-entropy over an item table on CUDA's tensor cores, of bfloat16 values."""

from __future__ import annotations

import torch
from torch import Tensor

from . import _devices

#: As cpp/cuda/cross_entropy_kernels.h has it: what a block keeps of vectors fits its registers.
MOST_DIM = 256


def forward(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    options: tuple[float, float, float],
) -> tuple[Tensor, Tensor]:
    """Return rows' losses and log-sums, float32; options: scale, softcap, label_smoothing."""
    rows, items = _vectors(hidden), _vectors(weight)
    loss, log_sum = (rows.new_empty(len(rows), dtype=torch.float32) for _ in range(2))
    _devices.run(
        "cross_entropy_tensor", None, hidden,
        rows, items, bias, target, *options, loss, log_sum,
        _workspace("workspace", rows, items),
    )  # fmt: skip
    return loss, log_sum


def backward(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    options: tuple[float, float, float],
    log_sum: Tensor,
    row_grad: Tensor,
    dhidden: Tensor | None,
    dweight: Tensor | None,
    dbias: Tensor | None,
) -> None:
    """Fill the gradients that are given: float32 or bfloat16, that of the bias float32."""
    items, counts = _vectors(weight), (target >= 0)[:, None]
    # Rows that are left out have gradients of 0, whatever they hold.
    rows = torch.where(counts, _vectors(hidden), 0.0)
    _devices.run(
        "cross_entropy_tensor_grad", None, hidden,
        rows, items, bias, target, *options, log_sum, row_grad.contiguous(),
        dhidden, dweight, dbias, _workspace("grad_workspace", rows, items),
    )  # fmt: skip
    if dhidden is not None:
        dhidden.masked_fill_(~counts, 0.0)


def _vectors(tensor: Tensor) -> Tensor:
    """Return vectors in bfloat16, in pieces of 16 bytes; the same tensor if they are that."""
    tensor = tensor.to(torch.bfloat16)
    if padding := -tensor.shape[1] % 8:
        tensor = torch.nn.functional.pad(tensor, (0, padding))
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.data_ptr() % 16 else tensor


def _workspace(name: str, rows: Tensor, items: Tensor) -> Tensor:
    return _devices.workspace(f"cross_entropy_tensor_{name}", rows, len(rows), *items.shape)
