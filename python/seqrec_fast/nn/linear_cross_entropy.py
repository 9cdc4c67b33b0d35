"""Cross-entropy over a whole item table without the matrix of all logits."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _loss_ops as ops
from ._differentiable import with_transforms
from ._differentiable_once import differentiable_once
from ._loss_checks import as_working, check_reduction, check_tables, check_targets
from ._tensors import asked_precision, working
from .row_update import RowUpdate

__all__ = ["linear_cross_entropy"]


class _CrossEntropy(torch.autograd.Function):
    """Rows' losses; keeps nothing of the size of the logits."""

    @staticmethod
    def forward(
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        options: tuple[float, float, float, str],
        update: RowUpdate | None,
    ) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = ops.cross_entropy(hidden, weight, target, bias, *options)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        *tensors, ctx.options, ctx.update = inputs
        ctx.save_for_backward(*tensors, output[1])
        ctx.mark_non_differentiable(output[1])

    @staticmethod
    @differentiable_once("linear_cross_entropy")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, target, log_sum = ctx.saved_tensors
        need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
        head: tuple[Any, ...] = (hidden, weight, target, bias, log_sum, gradients[0])
        head += ctx.options
        if ctx.update is None:
            found = ops.cross_entropy_grad(*head, need_hidden, need_weight, need_bias)
        else:
            need_weight = False
            found = ops.cross_entropy_gradients(hidden, weight, need_hidden, False, need_bias)
            arguments = (*head, *found, ctx.update.next_rule())
            ops.run_cross_entropy_grad(*arguments)
            ctx.update.count()
        needed = (need_hidden, need_weight, need_bias)
        return *(g if n else None for g, n in zip(found, needed, strict=True)), None, None, None


_cross_entropy = with_transforms("linear_cross_entropy", _CrossEntropy)


def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    *,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    scale: float = 1.0,
    softcap: float | None = None,
    reduction: str = "mean",
    update: RowUpdate | None = None,
) -> Tensor:
    """
    Return the cross-entropy of ``hidden @ weight.T + bias`` without that matrix.

    Equals ``torch.nn.functional.cross_entropy(softcap(scale * hidden @ weight.T + bias), target)``
    in value and gradients, where ``softcap(x) = c * tanh(x / c)``. Items are taken 64 at a time
    and their logits computed anew in backward, so memory is that of inputs and gradients. The
    same bits for any number of threads. Products are of bfloat16 values, with float32 sums, under
    ``torch.autocast`` to bfloat16 for the device. On CUDA logits live in registers, and backward
    holds the gradients of as many items' logits as 32 MiB have room for, with bfloat16 none: up to
    256 columns it runs on tensor cores, in float32 beyond.

    Parameters
    ----------
    hidden : (..., d) Tensor
        float32 or float64; bfloat16 and float16 are computed as float32, but for bfloat16 on
        CUDA with a `weight` in bfloat16: products are of bfloat16 values then. Gradients have
        the dtypes of their tensors, the loss is float32 or float64.
    weight : (n_items, d) Tensor
    target : (...) int64 Tensor
        On CUDA it is not checked: one that is no item makes the loss NaN.
    bias : (n_items,) Tensor, optional
        May hold -inf: such an item has probability 0.
    ignore_index : int
        Targets that count neither in the loss nor in its mean.
    label_smoothing : float
        Share of the target that all items get alike, 0 to 1.
    scale : float
        Factor of the products, an inverse temperature.
    softcap : float, optional
        Bound of the logits' magnitude.
    reduction : {"mean", "sum", "none"}
    update : RowUpdate, optional
        Of `weight`. Backward then makes its step, items by items, as soon as their gradient is
        complete, in place of a gradient of the table's size; `weight` gets no ``grad``. On CUDA
        products are of float32 values then.

    Returns
    -------
    () Tensor, or (...) Tensor with ``reduction="none"``

    Raises
    ------
    ValueError
        If a shape does not fit, a target is no item, or an option is out of range.
    TypeError
        If an argument has another type, or the table of `update` is not of the dtype that `hidden`
        is computed in.
    """
    name = "linear_cross_entropy"
    check_reduction(name, reduction)
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"{name}: label_smoothing is {label_smoothing}; expected 0 to 1")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"{name}: softcap is {softcap}; expected more than 0")
    if update is not None and update.table is not weight:
        raise ValueError(f"{name}: update is not of this weight")
    check_tables(name, hidden, weight, target, bias)
    rows, wanted = hidden.reshape(-1, hidden.shape[-1]), target.reshape(-1)
    if not torch.compiler.is_compiling() and not wanted.is_cuda:
        check_targets(name, wanted, weight.shape[0], ignore_index)
    wanted = torch.where(wanted == ignore_index, -1, wanted)
    # On CUDA a step is made with float32 products: tensor cores make gradients of whole tables.
    in_place = update is not None and rows.is_cuda
    precision = "full" if in_place else _precision(rows, weight)
    options = (float(scale), float(softcap or 0.0), float(label_smoothing), precision)
    if not (rows.is_cuda and precision == "bfloat16" and rows.dtype == torch.bfloat16):
        rows = working(rows)
    if not (rows.is_cuda and precision == "bfloat16" and weight.dtype == torch.bfloat16):
        weight = as_working(weight, rows)
    if update is not None and weight is not update.table:  # a copy would be updated
        raise TypeError(
            f"{name}: update is of a {update.table.dtype} table; expected {weight.dtype}, which "
            "hidden is computed in"
        )
    with torch.autocast("cpu", enabled=False):
        losses: tuple[Tensor, Tensor] = _cross_entropy(
            rows, weight, None if bias is None else as_working(bias, rows), wanted, options,
            update,
        )  # fmt: skip
        loss = losses[0]
        if reduction == "none":
            return loss.reshape(target.shape)
        return loss.sum() if reduction == "sum" else loss.sum() / (wanted >= 0).sum()


def _precision(hidden: Tensor, weight: Tensor) -> str:
    """Return that of products: what autocast asks for, or on CUDA the dtype of both tables."""
    if hidden.is_cuda and hidden.dtype == weight.dtype == torch.bfloat16:
        return "bfloat16"
    return asked_precision(hidden)
