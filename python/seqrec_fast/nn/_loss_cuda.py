"""Cross-entropy over an item table on CUDA; `_loss_ops.py` makes operators of it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _cross_entropy_tensor as tensor_cores
from . import _devices
from ._tensors import working

# Bytes of the gradients of scores that exist at once: they should stay in the GPU's cache.
_PANEL_BYTES = 32 << 20


def cross_entropy_cuda(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float,
    label_smoothing: float,
    precision: str,
) -> tuple[Tensor, Tensor]:
    """Return rows' losses and the logarithms of their sums of exponentials."""
    options = (scale, softcap, label_smoothing)
    if _on_tensor_cores(hidden, precision):
        return tensor_cores.forward(hidden, weight, target, bias, options)
    hidden, weight = working(hidden), working(weight)
    rows, items = hidden.shape[0], weight.shape[0]
    name = "cross_entropy_workspace" + _devices.suffix(hidden.dtype)
    workspace = _devices.workspace(name, hidden, rows, items, dtype=hidden.dtype)
    loss, log_sum = hidden.new_empty(rows), hidden.new_empty(rows)
    _devices.run(
        "cross_entropy", hidden.dtype, hidden,
        hidden, weight, bias, target, *options, "full", loss, log_sum, workspace,
    )  # fmt: skip
    return loss, log_sum


def cross_entropy_grad_cuda(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    log_sum: Tensor,
    row_grad: Tensor,
    scale: float,
    softcap: float,
    label_smoothing: float,
    precision: str,
    dhidden: Tensor,
    dweight: Tensor,
    dbias: Tensor,
    rule: tuple[Any, ...] | None = None,
) -> None:
    """
    Fill the gradients that are not empty; with `rule` update `weight` in place.

    `precision` is ``"full"`` then: tensor cores make gradients of whole tables.
    """
    options = (scale, softcap, label_smoothing)
    if _on_tensor_cores(hidden, precision):
        tensor_cores.backward(
            hidden, weight, target, bias, options, log_sum, row_grad,
            dhidden if dhidden.dim() == 2 else None, dweight if dweight.dim() == 2 else None,
            dbias if dbias.numel() else None,
        )  # fmt: skip
        return
    gradients = (dhidden, dweight, dbias)
    exact = [working(g) for g in gradients]
    _grad_by_panels(
        working(hidden), working(weight), target, bias, options, log_sum, row_grad, rule, *exact
    )
    for given, found in zip(gradients, exact, strict=True):
        if given is not found:
            given.copy_(found)


def _on_tensor_cores(hidden: Tensor, precision: str) -> bool:
    return precision == "bfloat16" and hidden.shape[1] <= tensor_cores.MOST_DIM


def _grad_by_panels(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    options: tuple[float, float, float],
    log_sum: Tensor,
    row_grad: Tensor,
    rule: tuple[Any, ...] | None,
    dhidden: Tensor,
    dweight: Tensor,
    dbias: Tensor,
) -> None:
    """Gradients of scores exist for a panel of items at a time; the rest is PyTorch's products."""
    rows, items, scale = hidden.shape[0], weight.shape[0], options[0]
    need_hidden, need_weight = (g.dim() == 2 for g in (dhidden, dweight))
    width = panel_width(rows, items, hidden.element_size())
    panel = hidden.new_empty(rows * width)
    dpanel = None if rule is None else weight.new_empty(width, weight.shape[1])
    # Rows that are left out have gradients of 0, whatever they and the table hold.
    is_summed = need_weight or rule is not None
    counted = torch.where((target >= 0)[:, None], hidden, 0.0) if is_summed else hidden
    head: tuple[Any, ...] = (hidden.contiguous(), weight.contiguous(), bias, target)
    head += (*options, "full", log_sum, row_grad.contiguous())
    if need_hidden:
        dhidden.zero_()
    with torch.autocast(hidden.device.type, enabled=False):
        for first in range(0, items, width):
            last = min(first + width, items)
            dscores = panel[: rows * (last - first)].view(rows, last - first)
            _devices.run("cross_entropy_score_grad", hidden.dtype, hidden, *head, first, dscores)
            if need_hidden:
                dhidden.addmm_(dscores, weight[first:last], alpha=scale)
            if is_summed:
                sums = dweight[first:last] if dpanel is None else dpanel[: last - first]
                sums.addmm_(dscores.t(), counted, beta=0, alpha=scale)
            if rule is not None:  # the panel's vectors have served; those of others are to come
                ids = torch.arange(first, last, device=weight.device)
                _devices.run("update_rows", weight.dtype, weight, rule, ids, sums, weight)
            if dbias.numel():
                torch.sum(dscores, 0, out=dbias[first:last])
    if need_hidden:
        dhidden.masked_fill_((target < 0)[:, None], 0.0)


def panel_width(rows: int, items: int, element_size: int) -> int:
    """Return how many items a panel has: whole tiles of 128."""
    fitting = _PANEL_BYTES // (max(1, rows) * element_size) // 128 * 128
    return min(items, max(128, fitting))
