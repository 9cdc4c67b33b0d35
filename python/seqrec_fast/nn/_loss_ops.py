"""The torch.library glue of the losses: operators on tensors, without gradients of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from seqrec_fast import _core

from . import _devices
from ._differentiable import direct
from ._loss_cuda import cross_entropy_cuda, cross_entropy_grad_cuda
from ._sampled_loss_cuda import sampled_loss_cuda
from ._tensors import argument

_library: Any = torch.library.Library("seqrec_fast", "FRAGMENT")  # type: ignore[no-untyped-call]
_library.define(
    "cross_entropy(Tensor hidden, Tensor weight, Tensor target, Tensor? bias, float scale,"
    " float softcap, float label_smoothing, str precision) -> (Tensor loss, Tensor log_sum)"
)
_library.define(
    "cross_entropy_grad(Tensor hidden, Tensor weight, Tensor target, Tensor? bias, Tensor log_sum,"
    " Tensor row_grad, float scale, float softcap, float label_smoothing, str precision,"
    " bool need_hidden, bool need_weight, bool need_bias)"
    " -> (Tensor dhidden, Tensor dweight, Tensor dbias)"
)
_library.define(
    "sampled_loss(str function, str kind, str collisions, Tensor hidden, Tensor weight,"
    " Tensor target, Tensor negatives, Tensor? bias, Tensor? log_q, Tensor? target_log_q,"
    " float scale, float elu, float regularization, float beta, str precision,"
    " Tensor? row_grad)"
    " -> (Tensor loss, Tensor dhidden, Tensor dtarget_scores, Tensor dnegatives,"
    " Tensor dnegative_bias)"
)
_library.define(
    "sum_rows(Tensor ids, Tensor[] rows, int[] repeats, Tensor? factors)"
    " -> (Tensor ids, Tensor sums)"
)


def _cross_entropy_cpu(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    bias: Tensor | None,
    scale: float,
    softcap: float,
    label_smoothing: float,
    precision: str,
) -> tuple[Tensor, Tensor]:
    loss, log_sum = hidden.new_empty(hidden.shape[0]), hidden.new_empty(hidden.shape[0])
    _devices.run_on_cpu(
        "cross_entropy", hidden.dtype,
        hidden, weight, bias, target, scale, softcap, label_smoothing, precision, loss, log_sum,
    )  # fmt: skip
    return loss, log_sum


def _cross_entropy_fake(hidden: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    rows, dtype = hidden.shape[0], _sum_dtype(hidden)
    return hidden.new_empty(rows, dtype=dtype), hidden.new_empty(rows, dtype=dtype)


def _sum_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype of sums: float32 for bfloat16, which CUDA takes."""
    return torch.float32 if tensor.dtype == torch.bfloat16 else tensor.dtype


def _cross_entropy_grad(
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
    need_hidden: bool,
    need_weight: bool,
    need_bias: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    gradients = cross_entropy_gradients(hidden, weight, need_hidden, need_weight, need_bias)
    run_cross_entropy_grad(
        hidden, weight, target, bias, log_sum, row_grad, scale, softcap, label_smoothing,
        precision, *gradients, None,
    )  # fmt: skip
    return gradients


def cross_entropy_gradients(
    hidden: Tensor, weight: Tensor, need_hidden: bool, need_weight: bool, need_bias: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return tensors for the gradients, empty ones for those that are not needed."""
    return (
        hidden.new_empty(hidden.shape if need_hidden else 0),
        weight.new_empty(weight.shape if need_weight else 0),
        hidden.new_empty(weight.shape[0] if need_bias else 0, dtype=_sum_dtype(hidden)),
    )


def run_cross_entropy_grad(
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
    rule: tuple[Any, ...] | None,
) -> None:
    """Fill the gradients that are not empty; with `rule` update `weight` in place."""
    if hidden.is_cuda:
        cross_entropy_grad_cuda(
            hidden, weight, target, bias, log_sum, row_grad, scale, softcap, label_smoothing,
            precision, dhidden, dweight, dbias, rule,
        )  # fmt: skip
        return
    wanted = (None if g.dim() == 1 and not g.numel() else g for g in (dhidden, dweight))
    _devices.run_on_cpu(
        "cross_entropy_grad", hidden.dtype,
        hidden, weight, bias, target, scale, softcap, label_smoothing, precision, log_sum, row_grad,
        *wanted, dbias if dbias.numel() else None, rule,
    )  # fmt: skip


def _cross_entropy_grad_fake(
    hidden: Tensor, weight: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    return cross_entropy_gradients(hidden, weight, *rest[-3:])


def per_row(hidden: Tensor, negatives: Tensor) -> bool:
    """
    Return whether each row has negatives of its own.

    The gradient of an entry's vector is that of its score times the row of hidden then, and the
    operator gives none.
    """
    return negatives.dim() == 2 and negatives.shape[0] == hidden.shape[0]


def _sampled_loss_outputs(
    hidden: Tensor, negatives: Tensor, row_grad: Tensor | None
) -> tuple[Tensor, ...]:
    rows, entries = hidden.shape[0], negatives.numel()
    loss = hidden.new_empty(rows)
    if row_grad is None:
        return loss, *(hidden.new_empty(0) for _ in range(4))
    return (
        loss,
        hidden.new_empty(hidden.shape),
        hidden.new_empty(rows),
        hidden.new_empty(0 if per_row(hidden, negatives) else entries, hidden.shape[1]),
        hidden.new_empty(entries),
    )


def _sampled_loss_cpu(
    function: str,
    kind: str,
    collisions: str,
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor,
    bias: Tensor | None,
    log_q: Tensor | None,
    target_log_q: Tensor | None,
    scale: float,
    elu: float,
    regularization: float,
    beta: float,
    precision: str,
    row_grad: Tensor | None,
) -> tuple[Tensor, ...]:
    outputs = _sampled_loss_outputs(hidden, negatives, row_grad)
    loss, *gradients = outputs
    wanted = [None if row_grad is None else gradient for gradient in gradients]
    if per_row(hidden, negatives):
        wanted[2] = None
    _devices.run_on_cpu(
        "sampled_loss", hidden.dtype,
        function, kind, collisions, hidden, weight, bias, target, negatives, log_q, target_log_q,
        scale, elu, regularization, beta, precision, loss, row_grad, *wanted,
    )  # fmt: skip
    return outputs


def _sampled_loss_cuda(*args: Any) -> tuple[Tensor, ...]:
    outputs = _sampled_loss_outputs(args[3], args[6], args[-1])
    sampled_loss_cuda(outputs, *args)
    return outputs


def _sampled_loss_fake(*args: Any) -> tuple[Tensor, ...]:
    return _sampled_loss_outputs(args[3], args[6], args[-1])


def _sum_rows_cpu(
    ids: Tensor, rows: list[Tensor], repeats: list[int], factors: Tensor | None
) -> tuple[Tensor, Tensor]:
    order, begin, unique = _core.order_rows(argument(ids))
    sums = rows[0].new_empty(len(unique), rows[0].shape[1])
    _devices.run_on_cpu("row_sum", sums.dtype, order, begin, rows, factors, sums, repeats)
    return torch.from_numpy(unique), sums


def _sum_rows_cuda(
    ids: Tensor, rows: list[Tensor], repeats: list[int], factors: Tensor | None
) -> tuple[Tensor, Tensor]:
    ascending, order = torch.sort(ids, stable=True)
    unique, counts = torch.unique_consecutive(ascending, return_counts=True)
    begin = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    sums = rows[0].new_empty(len(unique), rows[0].shape[1])
    _devices.run("row_sum", sums.dtype, sums, order, begin, tuple(rows), factors, sums, repeats)
    return unique, sums


def _sum_rows_fake(
    ids: Tensor, rows: list[Tensor], repeats: list[int], factors: Tensor | None
) -> tuple[Tensor, Tensor]:
    unique = torch.library.get_ctx().new_dynamic_size()
    return ids.new_empty(unique), rows[0].new_empty(unique, rows[0].shape[1])


for _name, _cpu, _fake in (
    ("cross_entropy", _cross_entropy_cpu, _cross_entropy_fake),
    ("cross_entropy_grad", _cross_entropy_grad, _cross_entropy_grad_fake),
    ("sampled_loss", _sampled_loss_cpu, _sampled_loss_fake),
    ("sum_rows", _sum_rows_cpu, _sum_rows_fake),
):
    _library.impl(_name, _cpu, "CPU")
    torch.library.register_fake(f"seqrec_fast::{_name}", _fake, lib=_library)
cross_entropy = direct("cross_entropy", _cross_entropy_cpu)
cross_entropy_grad = direct("cross_entropy_grad", _cross_entropy_grad)
sampled_loss = direct("sampled_loss", _sampled_loss_cpu)
sum_rows = direct("sum_rows", _sum_rows_cpu)
if "CUDA" in _devices.DEVICES:
    _library.impl("cross_entropy", cross_entropy_cuda, "CUDA")
    _library.impl("cross_entropy_grad", _cross_entropy_grad, "CUDA")
    _library.impl("sampled_loss", _sampled_loss_cuda, "CUDA")
    _library.impl("sum_rows", _sum_rows_cuda, "CUDA")
