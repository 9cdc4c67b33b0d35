"""One linear layer per group of rows: feed-forward experts in one call."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _devices, _grouped_linear_cuda
from ._checks import check_floating, check_offsets, check_shape
from ._differentiable import differentiable
from ._loss_checks import as_working
from ._tensors import autocast_precision, working

__all__ = ["grouped_linear"]

_library: Any = torch.library.Library("seqrec_fast", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "grouped_linear(Tensor x, Tensor weight, Tensor? bias, Tensor group_offsets,"
    " str precision='full') -> Tensor"
)
_library.define(
    "grouped_linear_grad(Tensor grad, Tensor x, Tensor weight, Tensor group_offsets, bool need_x,"
    " bool need_weight, bool need_bias, str precision='full')"
    " -> (Tensor dx, Tensor dweight, Tensor dbias)"
)


def _grouped_linear_fake(
    x: Tensor, weight: Tensor, bias: Tensor | None, group_offsets: Tensor, precision: str = "full"
) -> Tensor:
    return x.new_empty(x.shape[0], weight.shape[1])


def _check_precision(precision: str) -> None:
    if precision != "full":
        raise ValueError(f"grouped_linear: precision is {precision!r}; expected 'full' on the CPU")


def _grouped_linear_cpu(
    x: Tensor, weight: Tensor, bias: Tensor | None, group_offsets: Tensor, precision: str = "full"
) -> Tensor:
    _check_precision(precision)
    y = _grouped_linear_fake(x, weight, bias, group_offsets)
    _devices.run_on_cpu("grouped_linear", y.dtype, x, weight.flatten(0, 1), bias, group_offsets, y)
    return y


def _grouped_linear_grad_fake(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    group_offsets: Tensor,
    need_x: bool,
    need_weight: bool,
    need_bias: bool,
    precision: str = "full",
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        x.new_empty(x.shape if need_x else 0),
        x.new_empty(weight.shape if need_weight else 0),
        x.new_empty(weight.shape[:2] if need_bias else 0),
    )


def _grouped_linear_grad_cpu(
    grad: Tensor, x: Tensor, weight: Tensor, group_offsets: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    found, (dx, dweight, dbias), precision = _grad_outputs(grad, x, weight, group_offsets, *options)
    _check_precision(precision)
    _devices.run_on_cpu(
        "grouped_linear_grad", x.dtype, x, weight.flatten(0, 1), group_offsets, grad, dx,
        None if dweight is None else dweight.flatten(0, 1), dbias,
    )  # fmt: skip
    return found


def _grad_outputs(
    grad: Tensor,
    x: Tensor,
    weight: Tensor,
    group_offsets: Tensor,
    need_x: bool,
    need_weight: bool,
    need_bias: bool,
    precision: str = "full",
) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor | None, ...], str]:
    """Outputs, those of them that are needed, and the precision."""
    needed = (need_x, need_weight, need_bias)
    found = _grouped_linear_grad_fake(grad, x, weight, group_offsets, *needed)
    wanted = tuple(g if need else None for g, need in zip(found, needed, strict=True))
    return found, wanted, precision


def _on_cuda(
    x: Tensor, weight: Tensor, bias: Tensor | None, group_offsets: Tensor, precision: str = "full"
) -> Tensor:
    return _grouped_linear_cuda.forward(x, weight, bias, group_offsets, precision)


def _grad_on_cuda(
    grad: Tensor, x: Tensor, weight: Tensor, group_offsets: Tensor, *options: Any
) -> tuple[Tensor, Tensor, Tensor]:
    found, (dx, dweight, dbias), precision = _grad_outputs(grad, x, weight, group_offsets, *options)
    _grouped_linear_cuda.backward(grad, x, weight, group_offsets, dx, dweight, dbias, precision)
    return found


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, _, group_offsets, ctx.precision = inputs
    ctx.save_for_backward(x, weight, group_offsets)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[:3]
    found = _grouped_linear_grad(grad, *ctx.saved_tensors, *needed, ctx.precision)
    return *(g if need else None for g, need in zip(found, needed, strict=True)), None, None


def _grad_setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad, x, weight, group_offsets, *ctx.needed, ctx.precision = inputs
    ctx.save_for_backward(grad, x, weight, group_offsets)
    ctx.set_materialize_grads(False)


def _grad_backward(
    ctx: Any, of_dx: Tensor | None, of_dweight: Tensor | None, of_dbias: Tensor | None
) -> tuple[Tensor | None, ...]:
    # dx, dweight and dbias are linear in each of their factors, so these ops are all it takes.
    grad, x, weight, group_offsets = ctx.saved_tensors
    precision = ctx.precision
    given = (of_dx, of_dweight, of_dbias)
    of_dx, of_dweight, of_dbias = (g if n else None for g, n in zip(given, ctx.needed, strict=True))
    of_grad = of_x = of_weight = None
    if of_dx is not None:
        of_grad = _grouped_linear(of_dx, weight, of_dbias, group_offsets, precision)
        _, of_weight, _ = _grouped_linear_grad(
            grad, of_dx, weight, group_offsets, False, True, False, precision
        )
    elif of_dbias is not None:
        of_grad = of_dbias[_grouped_linear_cuda.group_of_rows(group_offsets, x.shape[0])]
    if of_dweight is not None:
        part = _grouped_linear(x, of_dweight, None, group_offsets, precision)
        of_grad = part if of_grad is None else of_grad + part
        of_x, _, _ = _grouped_linear_grad(
            grad, x, of_dweight, group_offsets, True, False, False, precision
        )
    return of_grad, of_x, of_weight, *(None,) * 5


_library.impl("grouped_linear", _grouped_linear_cpu, "CPU")
_library.impl("grouped_linear_grad", _grouped_linear_grad_cpu, "CPU")
if "CUDA" in _devices.DEVICES:
    _library.impl("grouped_linear", _on_cuda, "CUDA")
    _library.impl("grouped_linear_grad", _grad_on_cuda, "CUDA")
for _name, _fake in (
    ("grouped_linear", _grouped_linear_fake),
    ("grouped_linear_grad", _grouped_linear_grad_fake),
):
    torch.library.register_fake(f"seqrec_fast::{_name}", _fake, lib=_library)
_grouped_linear = differentiable("grouped_linear", _backward, _setup, _library, _grouped_linear_cpu)
_grouped_linear_grad = differentiable(
    "grouped_linear_grad", _grad_backward, _grad_setup, _library, _grouped_linear_grad_cpu
)


def grouped_linear(x: Tensor, weight: Tensor, bias: Tensor | None, group_offsets: Tensor) -> Tensor:
    """
    Apply one linear layer per group of rows, as feed-forward experts do.

    A row's result does not depend on the other rows, nor on the number of threads. Groups may be
    empty; the gradients of their weights are then exactly 0. Under ``torch.autocast("cuda",
    torch.bfloat16)`` products of float32 tensors there are of values rounded to bfloat16.

    Parameters
    ----------
    x : (N, I) Tensor
        float32 or float64; bfloat16 and float16 are computed as float32.
    weight : (M, O, I) Tensor
        Of each group, as :class:`torch.nn.Linear` has it.
    bias : (M, O) Tensor or None
    group_offsets : (M + 1,) int64 Tensor
        Group m holds the rows from ``group_offsets[m]`` to ``group_offsets[m + 1]``. Of a dispatch
        over B sequences: ``dispatch.offsets[::B]``.

    Returns
    -------
    (N, O) Tensor

    Raises
    ------
    TypeError
        If a tensor has another dtype.
    ValueError
        If a shape does not fit or the offsets are no partition of the rows.
    """
    name = "grouped_linear"
    check_floating(name, "x", x)
    check_shape(name, "x", x, "N", "I")
    check_floating(name, "weight", weight)
    check_shape(name, "weight", weight, "M", "O", x.shape[1])
    if bias is not None:
        check_floating(name, "bias", bias)
        check_shape(name, "bias", bias, *weight.shape[:2])
    check_offsets(name, "group_offsets", group_offsets, weight.shape[0])
    rows = working(x)
    y: Tensor = _grouped_linear(
        rows,
        as_working(weight, rows),
        None if bias is None else as_working(bias, rows),
        group_offsets,
        autocast_precision("cuda") if rows.is_cuda and rows.dtype == torch.float32 else "full",
    )
    return y
