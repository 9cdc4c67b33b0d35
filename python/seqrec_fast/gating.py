"""The expert gate on NumPy arrays: which experts a row chooses, and their weights."""

from __future__ import annotations

from typing import Any, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _core
from ._checks import check_choice, checked_flag, checked_int, checked_number

__all__ = ["expert_gate"]

SCORES = ("softmax", "sigmoid", "sqrt_softplus")
ORDERS = ("score_then_topk", "topk_then_score")
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

    Chosen are those with the k largest logits, equal ones by ascending id; they come by descending
    score, equal ones by ascending id. A NaN logit, and one that `mask` forbids, is no candidate
    and counts in no sum; in arithmetic an infinite logit counts as the largest finite number. A
    row's result depends on nothing but the row, to the last bit, on one CPU target.

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
        What `bias` is added to. In the second, the softmax is that over the chosen alone, and
        experts come by descending logit. Without a bias both choose the same, because scores
        ascend with logits.
    renormalize : bool
        Divide the weights of a row by their sum. Where it is 0 they are 0.
    bias : (E,) array of the dtype of `logits`, optional
        Added to scores or logits, as `order` says; experts are then chosen, and come, by the sums.
        It does not change the weights of the chosen.
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
        If an array has another dtype, or an option another type.
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
    name = "expert_gate"
    array = np.ascontiguousarray(logits)
    kernel = _KERNELS.get(array.dtype)
    if kernel is None:
        raise TypeError(f"{name}: logits is {array.dtype}; expected float32 or float64")
    if array.ndim != 2:
        raise ValueError(f"{name}: logits has shape {array.shape}; expected (N, E)")
    rows, experts = array.shape
    k, *options = checked_options(name, experts, k, score, order, renormalize, scale)
    offset = checked_bias(name, bias, experts, array.dtype)
    allowed = checked_mask(name, mask, rows, experts)
    weights = np.empty((rows, k), array.dtype)
    expert_ids = np.empty((rows, k), np.int64)
    kernel(array, k, *options[:3], offset, allowed, options[3], weights, expert_ids)
    return weights, expert_ids


def checked_options(
    function: str,
    experts: int,
    k: SupportsIndex,
    score: str,
    order: str,
    renormalize: bool,
    scale: float,
) -> tuple[int, str, str, bool, float]:
    """Return the options of a gate as the kernels take them."""
    check_choice(function, "score", score, SCORES)
    check_choice(function, "order", order, ORDERS)
    return (
        checked_int(function, "k", k, 1, experts),
        score,
        order,
        checked_flag(function, "renormalize", renormalize),
        checked_number(function, "scale", scale, finite=True),
    )


def checked_bias(
    function: str, bias: ArrayLike | None, experts: int, dtype: np.dtype[Any]
) -> NDArray[Any] | None:
    """Return the bias as the kernels take it."""
    if bias is None:
        return None
    array = np.ascontiguousarray(bias)
    if array.dtype != dtype:
        raise TypeError(f"{function}: bias is {array.dtype}; expected {dtype}")
    if array.shape != (experts,):
        raise ValueError(f"{function}: bias has shape {array.shape}; expected ({experts},)")
    return array


def checked_mask(
    function: str, mask: ArrayLike | None, rows: int, experts: int
) -> NDArray[np.uint8] | None:
    """Return the mask as the kernels take it."""
    if mask is None:
        return None
    array = np.ascontiguousarray(mask)
    if array.dtype != np.bool_:
        raise TypeError(f"{function}: mask is {array.dtype}; expected bool")
    if array.shape not in ((experts,), (rows, experts)):
        raise ValueError(
            f"{function}: mask has shape {array.shape}; expected ({experts},) or ({rows}, "
            f"{experts})"
        )
    return array.view(np.uint8)
