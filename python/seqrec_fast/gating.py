"""The expert gate on NumPy arrays: which experts a row chooses, and their weights."""

from __future__ import annotations

import operator
from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core

__all__ = ["expert_gate"]

_KERNELS: dict[np.dtype[Any], Any] = {
    np.dtype(np.float32): _core.expert_gate_f32,
    np.dtype(np.float64): _core.expert_gate_f64,
}


def expert_gate(
    logits: ArrayLike,
    k: SupportsIndex,
    *,
    score: str = "softmax",
    order: str = "score_then_topk",
    renormalize: bool = True,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    scale: float = 1.0,
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """
    Choose k experts for each row and return their weights.

    Experts come by descending score, equal ones by ascending id. A NaN logit, and one that `mask`
    forbids, is no candidate and counts in no sum; in arithmetic an infinite logit counts as the
    largest finite number. A row's result depends on nothing but the row, to the last bit, on one
    CPU target.

    Parameters
    ----------
    logits : (N, E) float32 or float64 array
        One row per event, one column per expert; E at least 1.
    k : int
        1 to E.
    score : {"softmax", "sigmoid", "sqrt_softplus"}
        s(logit): the share of exp(logit) (Shazeer et al., 2017, arXiv:1701.06538),
        1 / (1 + exp(-logit)) (DeepSeek-V3, 2024, arXiv:2412.19437), or
        sqrt(log(1 + exp(logit))).
    order : {"score_then_topk", "topk_then_score"}
        Without `bias` both choose the same. In the second, experts are chosen by logits and the
        softmax is that over the chosen alone.
    renormalize : bool
        Divide the weights of a row by their sum. Where it is 0 they are 0.
    bias : (E,) array of the dtype of `logits`, optional
        Added to what experts are chosen by (scores or logits, as `order` says), never to the
        weights.
    mask : (E,) or (N, E) bool array, optional
        True: may be chosen.
    scale : float
        Factor of the weights.

    Returns
    -------
    weights : (N, k) array of the dtype of `logits`
        0 where no candidate is left.
    expert_ids : (N, k) int64 array
        -1 there; the others of a row differ.

    Raises
    ------
    TypeError
        If an array has another dtype.
    ValueError
        If a shape does not fit, k is out of range, an option is unknown or scale is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from seqrec_fast import expert_gate
    >>> weights, expert_ids = expert_gate(np.array([[0.0, 2.0, 2.0, 1.0]], np.float32), 2)
    >>> weights.tolist(), expert_ids.tolist()
    ([[0.5, 0.5]], [[1, 2]])
    """
    array = np.ascontiguousarray(logits)
    kernel = _KERNELS.get(array.dtype)
    if kernel is None:
        raise TypeError(f"expert_gate: logits is {array.dtype}; expected float32 or float64")
    if array.ndim != 2:
        raise ValueError(f"expert_gate: logits has {array.ndim} dimensions; expected (N, E)")
    k = operator.index(k)
    rows, experts = array.shape
    if not 1 <= k <= experts:  # before k outputs are made
        raise ValueError(f"expert_gate: k is {k}; expected 1 to {experts}")
    weights = np.empty((rows, k), array.dtype)
    expert_ids = np.empty((rows, k), np.int64)
    kernel(
        array, k, score, order, renormalize, _bias(bias, array), _mask(mask, array.shape), scale,
        weights, expert_ids,
    )  # fmt: skip
    return weights, expert_ids


def _bias(bias: ArrayLike | None, logits: NDArray[Any]) -> NDArray[Any] | None:
    if bias is None:
        return None
    array = np.ascontiguousarray(bias)
    if array.dtype != logits.dtype:
        raise TypeError(f"expert_gate: bias is {array.dtype}; expected {logits.dtype}")
    if array.shape != logits.shape[1:]:
        raise ValueError(
            f"expert_gate: bias has shape {array.shape}; expected ({logits.shape[1]},)"
        )
    return array


def _mask(mask: ArrayLike | None, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    if mask is None:
        return None
    array = np.ascontiguousarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"expert_gate: mask is {array.dtype}; expected bool")
    if array.shape not in (shape, shape[1:]):
        raise ValueError(
            f"expert_gate: mask has shape {array.shape}; expected {shape[1:]} or {shape}"
        )
    return array.view(np.uint8)
