"""The definition of the expert gate in float64 NumPy, and of its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

__all__ = ["expert_gate", "expert_gate_grad"]


def _scores(score: str, x: Array) -> Array:
    """Scores of candidates along the last axis; NaN is none and gets 0."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        if score == "softmax":
            e = np.exp(x - np.nanmax(x, initial=-np.inf))
            s = e / np.nansum(e)
        elif score == "sigmoid":
            s = 1 / (1 + np.exp(-x))
        else:
            s = np.sqrt(np.logaddexp(0, x))
    return np.where(np.isnan(x), 0.0, s)


def expert_gate(
    logits: ArrayLike,
    k: int,
    *,
    score: str = "softmax",
    order: str = "score_then_topk",
    renormalize: bool = True,
    bias: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    scale: float = 1.0,
) -> tuple[Array, NDArray[np.int64]]:
    """Return weights and ids as :func:`seqrec_fast.expert_gate`, row by row."""
    z = np.array(logits)
    largest = np.finfo(z.dtype).max
    z = z.astype(np.float64)
    z[~np.broadcast_to(True if mask is None else np.asarray(mask), z.shape)] = np.nan
    weights = np.zeros((len(z), k))
    ids = np.full((len(z), k), -1, np.int64)
    for row, out_weights, out_ids in zip(z, weights, ids, strict=True):
        key, row = row, np.clip(row, -largest, largest)
        if bias is not None:
            key = _scores(score, row) if order == "score_then_topk" else row
            key = np.where(np.isnan(row), np.nan, key) + np.asarray(bias, np.float64)
        chosen = np.argsort(-key, kind="stable")  # NaN sorts last
        chosen = chosen[~np.isnan(key[chosen])][:k]
        among = row[chosen] if order == "topk_then_score" or renormalize else row
        s = _scores(score, among)
        s = s if among is not row else s[chosen]
        if renormalize and s.sum() > 0:
            s = s / s.sum()
        out_weights[: len(chosen)] = scale * s
        out_ids[: len(chosen)] = chosen
    return weights, ids


def expert_gate_grad(
    logits: ArrayLike, dweights: ArrayLike, k: int, step: float = 1e-6, **options: Any
) -> Array:
    """Return the gradient of ``sum(weights * dweights)``, by differences, choices unchanged."""
    z, upstream = np.array(logits, np.float64), np.asarray(dweights, np.float64)
    gradient = np.zeros_like(z)
    for e in range(z.shape[1]):
        ahead, behind = z.copy(), z.copy()
        ahead[:, e] += step
        behind[:, e] -= step
        sums = [(expert_gate(x, k, **options)[0] * upstream).sum(1) for x in (ahead, behind)]
        gradient[:, e] = (sums[0] - sums[1]) / (2 * step)
    return gradient
