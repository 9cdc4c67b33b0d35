"""Losses of targets against sampled negatives, in one pass over the rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import _loss_ops as ops
from ._differentiable import is_differentiated, with_transforms
from ._differentiable_once import differentiable_once
from ._loss_checks import as_working, check_reduction, check_tables
from ._tensors import add_at, asked_precision, working

__all__ = ["bpr_max_loss", "gbce_loss", "sampled_softmax_loss", "top1_max_loss"]

_Options = tuple[Any, ...]  # name, kind, collisions, scale and the other numbers
_COLLISIONS = ("mask", "own", "keep")


class _RowLosses(torch.autograd.Function):
    """Every row's loss of targets against negatives; backward computes them anew."""

    @staticmethod
    def forward(
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        negatives: Tensor,
        log_q: Tensor | None,
        target_log_q: Tensor | None,
        options: _Options,
        sparse: bool,
    ) -> Tensor:
        tensors = (hidden, weight, bias, target, negatives, log_q, target_log_q)
        return _sampled_loss(tensors, options, None)[0]

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *tensors, ctx.options, ctx.sparse = inputs
        ctx.save_for_backward(*tensors)
        ctx.shape = tensors[1].shape

    @staticmethod
    @differentiable_once("sampled_loss")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, _, _, target, negatives, _, _ = ctx.saved_tensors
        row_grad = gradients[0].contiguous()
        _, *parts = _sampled_loss(ctx.saved_tensors, ctx.options, row_grad)
        found = _by_item(ctx, hidden, target, negatives, ctx.options[3], parts)
        return *_of_tables(ctx, *found), *(None,) * 6


_row_losses = with_transforms("sampled_loss", _RowLosses)


class _ReducedLoss(torch.autograd.Function):
    """Mean or sum of those losses, which makes the gradients along with them."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, options, sparse, reduction = inputs
        hidden, weight, bias, target, negatives, _, _ = tensors
        ctx.shape, ctx.sparse = weight.shape, sparse
        rows = hidden.shape[0]
        row_grad = hidden.new_full((rows,), 1 / max(rows, 1) if reduction == "mean" else 1.0)
        loss, *gradients = _sampled_loss(tensors, options, row_grad)
        found = _by_item(ctx, hidden, target, negatives, options[3], gradients)
        ctx.save_for_backward(*found, hidden, weight, bias)  # what gradients are of
        return _reduced(loss, reduction)

    @staticmethod
    @differentiable_once("sampled_loss")
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        ids, *found = ctx.saved_tensors[:4]
        upstream = gradients[0]
        if not _sums_now(upstream) or upstream != 1:
            found = [None if g is None else g * upstream for g in found]
        return *_of_tables(ctx, ids, *found), *(None,) * 7


def _sampled_loss(
    tensors: Sequence[Tensor | None], options: _Options, row_grad: Tensor | None
) -> list[Tensor]:
    """Return the losses of all rows and, given their gradients, parts of those of the inputs."""
    hidden, weight, bias, target, negatives, log_q, target_log_q = tensors
    name, kind, collisions, *numbers = options
    found: list[Tensor] = ops.sampled_loss(
        name, kind, collisions, hidden, weight, target, negatives, bias, log_q, target_log_q,
        *numbers, row_grad,
    )  # fmt: skip
    return found


def _reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss.mean() if reduction == "mean" else loss.sum()


def _of_tables(
    ctx: Any,
    ids: Tensor,
    dhidden: Tensor | None,
    drows: Tensor | None,
    dbias_rows: Tensor | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Return the gradients of hidden, weight and bias."""
    dweight = dbias = None
    if drows is not None:
        dweight = _scatter(ids, drows, ctx.shape, ctx.sparse)
    if dbias_rows is not None:
        dbias = _scatter(ids, dbias_rows[:, 0], ctx.shape[:1], False)
    return dhidden, dweight, dbias


def _by_item(
    ctx: Any,
    hidden: Tensor,
    target: Tensor,
    negatives: Tensor,
    scale: float,
    gradients: list[Tensor],
) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
    """Return ids, dhidden, and the gradients of their vectors and biases where needed."""
    dhidden, dtarget, dnegatives, dbias = gradients
    need_hidden, need_weight, need_bias = ctx.needs_input_grad[:3]
    ids = torch.cat([target, negatives.reshape(-1)])
    unique, drows, dbias_rows = ids[:0], None, None
    if need_weight:
        if ops.per_row(hidden, negatives):
            factors = scale * torch.cat([dtarget, dbias])
            unique, drows = _sum_rows(ids, [hidden, hidden], [1, negatives.shape[1]], factors)
        else:
            factors = torch.cat([dtarget * scale, torch.ones_like(dbias)])
            unique, drows = _sum_rows(ids, [hidden, dnegatives], [1, 1], factors)
    if need_bias:
        unique, dbias_rows = _sum_rows(ids, [dtarget[:, None], dbias[:, None]], [1, 1], None)
    return unique, dhidden if need_hidden else None, drows, dbias_rows


def _sums_now(ids: Tensor) -> bool:
    """
    Return whether equal ids are summed as soon as there are gradients.

    Their number depends on values, which a compiled graph must not and for which a GPU would have
    to be waited for: then it is left to the sum of all.
    """
    return not torch.compiler.is_compiling() and not ids.is_cuda


def _sum_rows(
    ids: Tensor, rows: list[Tensor], repeats: list[int], factors: Tensor | None
) -> tuple[Tensor, Tensor]:
    if _sums_now(ids):
        summed: tuple[Tensor, Tensor] = ops.sum_rows(ids, rows, repeats, factors)
        return summed
    parts = torch.cat([part.repeat_interleave(n, 0) for part, n in zip(rows, repeats, strict=True)])
    return ids, parts if factors is None else parts * factors[:, None]


def _scatter(ids: Tensor, rows: Tensor, shape: tuple[int, ...], sparse: bool) -> Tensor:
    if sparse:
        return torch.sparse_coo_tensor(
            ids[None], rows, shape, check_invariants=False,
            is_coalesced=_sums_now(ids),
        )  # fmt: skip
    if _sums_now(ids) and len(ids) == shape[0]:
        return rows  # ascending, each once: all of them
    return add_at(rows.new_zeros(shape), ids, rows)


def _sampled(
    name: str,
    kind: str,
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor,
    bias: Tensor | None,
    *,
    collisions: str,
    scale: float,
    reduction: str,
    sparse: bool,
    log_q: Tensor | None = None,
    target_log_q: Tensor | None = None,
    elu: float | None = None,
    regularization: float = 0.0,
    beta: float = 1.0,
) -> Tensor:
    check_reduction(name, reduction)
    if collisions not in _COLLISIONS:
        raise ValueError(
            f"{name}: collisions is {collisions!r}; expected one of {', '.join(_COLLISIONS)}"
        )
    if hidden.dim() != 2 or target.shape != hidden.shape[:1]:
        raise ValueError(
            f"{name}: hidden has shape {tuple(hidden.shape)} and target {tuple(target.shape)}; "
            "expected (N, d) and (N,)"
        )
    check_tables(name, hidden, weight, target, bias)
    if negatives.dim() not in (1, 2):
        raise ValueError(
            f"{name}: negatives has {negatives.dim()} dimensions; expected (S,) or (G, S)"
        )
    sets = negatives if negatives.dim() == 2 else negatives.unsqueeze(0)
    if log_q is not None:
        if log_q.shape == weight.shape[:1]:
            target_log_q = log_q[target] if target_log_q is None else target_log_q
            log_q = log_q[sets]
        elif log_q.shape != negatives.shape:
            raise ValueError(
                f"{name}: log_q has shape {tuple(log_q.shape)}; expected that of negatives, "
                f"{tuple(negatives.shape)}, or ({weight.shape[0]},)"
            )
        log_q = as_working(log_q.reshape(sets.shape), hidden)
    if kind == "corrected_softmax":
        target_log_q = None  # the target is no sample
    elif target_log_q is not None:
        target_log_q = as_working(target_log_q, hidden)
    options = (
        name, kind, collisions, float(scale), -1.0 if elu is None else float(elu),
        float(regularization), float(beta),
        asked_precision(hidden),
    )  # fmt: skip
    with torch.autocast("cpu", enabled=False):
        rows = working(hidden)
        weight = as_working(weight, hidden)
        bias = None if bias is None else as_working(bias, hidden)
        arguments = (rows, weight, bias, target, negatives, log_q, target_log_q, options, sparse)
        needed = torch.is_grad_enabled() and any(
            tensor is not None and tensor.requires_grad for tensor in (rows, weight, bias)
        )
        if needed and reduction != "none" and not is_differentiated():
            loss: Tensor = _ReducedLoss.apply(*arguments, reduction)  # type: ignore[no-untyped-call]
            return loss
        losses: Tensor = _row_losses(*arguments)
        return losses if reduction == "none" else _reduced(losses, reduction)


def sampled_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor,
    bias: Tensor | None = None,
    *,
    log_q: Tensor | None = None,
    target_log_q: Tensor | None = None,
    corrected: bool = False,
    collisions: str = "mask",
    scale: float = 1.0,
    reduction: str = "mean",
    sparse: bool = False,
) -> Tensor:
    """
    Return the softmax cross-entropy of targets against sampled negatives.

    -log(e^p / (e^p + sum e^s)) with p the score of the target and s those of the negatives
    (Jean et al., 2015, arXiv:1412.2007). Scores, loss and gradients are made in one pass, some
    rows at a time; the same bits for any number of threads.

    Parameters
    ----------
    hidden : (N, d) Tensor
        float32 or float64. Under ``torch.autocast`` to bfloat16 for the device, products of float32
        with shared negatives are of bfloat16 values, with float32 sums.
    weight : (n_items, d) Tensor
    target : (N,) int64 Tensor
    negatives : (S,) or (G, S) int64 Tensor
        Shared by all rows; or G sets, of which row i has number ``i // ceil(N / G)``: one per row
        with G = N.
    bias : (n_items,) Tensor, optional
    log_q : (S,), (G, S) or (n_items,) Tensor, optional
        Logarithms of the negatives' probabilities of being drawn, taken from their scores.
    target_log_q : (N,) Tensor, optional
        The same for the targets; by default from `log_q` if that is by item.
    corrected : bool
        The target, which is always there, is no sample: w (log(E) - p), where E is the mean of
        e^(s - log_q) over the S negatives and w = E / (e^p + E) has no gradient. In expectation
        that is the gradient of the full softmax.
    collisions : {"mask", "own", "keep"}
        Which negatives of a row do not count: those equal to its target; number i of row i, where
        the first N negatives are the targets of the batch; none.
    scale : float
        Factor of the products, an inverse temperature.
    reduction : {"mean", "sum", "none"}
    sparse : bool
        Give `weight` a sparse gradient, of the targets and negatives alone.

    Returns
    -------
    () Tensor, or (N,) Tensor with ``reduction="none"``

    Raises
    ------
    TypeError
        If a tensor has another dtype.
    ValueError
        If a shape does not fit, an id is no item, or an option is out of range.
    """
    return _sampled(
        "sampled_softmax_loss", "corrected_softmax" if corrected else "softmax", hidden, weight,
        target, negatives, bias, collisions=collisions, scale=scale, reduction=reduction,
        sparse=sparse, log_q=log_q, target_log_q=target_log_q,
    )  # fmt: skip


def bpr_max_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor,
    bias: Tensor | None = None,
    *,
    regularization: float = 1.0,
    elu: float | None = None,
    collisions: str = "mask",
    scale: float = 1.0,
    reduction: str = "mean",
    sparse: bool = False,
) -> Tensor:
    """
    Return BPR-max (Hidasi & Karatzoglou, 2018, arXiv:1706.03847).

    -log(sum q sigmoid(p - s) + 1e-24) + regularization * sum q s^2 with p the score of the
    target, s those of the negatives and q their softmax.

    Parameters
    ----------
    hidden, weight, target, negatives, bias, collisions, scale, reduction, sparse
        As in :func:`sampled_softmax_loss`.
    regularization : float
    elu : float, optional
        Scores are ELUs with this alpha.

    Returns
    -------
    () Tensor, or (N,) Tensor with ``reduction="none"``

    Raises
    ------
    TypeError, ValueError
        As :func:`sampled_softmax_loss`.
    """
    _check_elu("bpr_max_loss", elu)
    return _sampled(
        "bpr_max_loss", "bpr_max", hidden, weight, target, negatives, bias, collisions=collisions,
        scale=scale, reduction=reduction, sparse=sparse, elu=elu, regularization=regularization,
    )  # fmt: skip


def top1_max_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor,
    bias: Tensor | None = None,
    *,
    elu: float | None = None,
    collisions: str = "mask",
    scale: float = 1.0,
    reduction: str = "mean",
    sparse: bool = False,
) -> Tensor:
    """
    Return TOP1-max (Hidasi & Karatzoglou, 2018, arXiv:1706.03847).

    sum q (sigmoid(s - p) + sigmoid(s^2)) with p the score of the target, s those of the negatives
    and q their softmax.

    Parameters
    ----------
    hidden, weight, target, negatives, bias, collisions, scale, reduction, sparse
        As in :func:`sampled_softmax_loss`.
    elu : float, optional
        Scores are ELUs with this alpha.

    Returns
    -------
    () Tensor, or (N,) Tensor with ``reduction="none"``

    Raises
    ------
    TypeError, ValueError
        As :func:`sampled_softmax_loss`.
    """
    _check_elu("top1_max_loss", elu)
    return _sampled(
        "top1_max_loss", "top1_max", hidden, weight, target, negatives, bias,
        collisions=collisions, scale=scale, reduction=reduction, sparse=sparse, elu=elu,
    )  # fmt: skip


def gbce_loss(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor,
    bias: Tensor | None = None,
    *,
    calibration: float = 0.75,
    collisions: str = "mask",
    scale: float = 1.0,
    reduction: str = "mean",
    sparse: bool = False,
) -> Tensor:
    """
    Return the generalised binary cross-entropy (Petrov & Macdonald, 2023, arXiv:2308.07192).

    -beta log(sigmoid(p)) - sum log(1 - sigmoid(s)) with p the score of the target and s those of
    the negatives; beta = a (t (1 - 1 / a) + 1 / a) where a is the share of the catalogue that is
    sampled and t the calibration.

    Parameters
    ----------
    hidden, weight, target, negatives, bias, collisions, scale, reduction, sparse
        As in :func:`sampled_softmax_loss`.
    calibration : float
        0: plain binary cross-entropy; 1: unbiased probabilities.

    Returns
    -------
    () Tensor, or (N,) Tensor with ``reduction="none"``

    Raises
    ------
    TypeError, ValueError
        As :func:`sampled_softmax_loss`.
    """
    if not 0 <= calibration <= 1:
        raise ValueError(f"gbce_loss: calibration is {calibration}; expected 0 to 1")
    rate = min(1.0, negatives.shape[-1] / max(weight.shape[0] - 1, 1)) if negatives.dim() else 1.0
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate) if rate else 1.0
    return _sampled(
        "gbce_loss", "gbce", hidden, weight, target, negatives, bias, collisions=collisions,
        scale=scale, reduction=reduction, sparse=sparse, beta=beta,
    )  # fmt: skip


def _check_elu(name: str, elu: float | None) -> None:
    if elu is not None and not elu >= 0:
        raise ValueError(f"{name}: elu is {elu}; expected 0 or more")
