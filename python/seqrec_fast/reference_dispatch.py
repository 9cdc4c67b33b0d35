"""The definitions of sessions, dispatch and experts in plain NumPy; see :mod:`.reference`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Ids = NDArray[np.int64]

__all__ = [
    "combine_by_expert",
    "dispatch_by_expert",
    "dispatch_rows",
    "grouped_linear",
    "multi_gate_mixture",
    "segment_mean",
    "session_segments",
]


def session_segments(
    offsets: Sequence[int],
    times: Sequence[float] | None = None,
    *,
    rule: str = "window",
    window: int = 1,
    gap: float = 0.0,
    count: int = 1,
) -> tuple[list[int], list[int]]:
    """Where segments begin (with the number of events at the end), and those of each sequence."""
    begins, of_sequence = [], [0]
    for first, last in pairwise(offsets):
        events = range(first + 1, last)
        if rule == "window":
            cuts = [n for n in events if (n - first) % window == 0]
        else:
            assert times is not None
            gaps = {n: times[n] - times[n - 1] for n in events}
            if rule == "gap":
                cuts = [n for n in events if float(gaps[n]) > gap]
            else:
                largest = sorted((n for n in events if gaps[n] > 0), key=lambda n: (-gaps[n], n))
                cuts = sorted(largest[: count - 1])
        begins += [first, *cuts] if first < last else []
        of_sequence.append(len(begins))
    return [*begins, offsets[-1]], of_sequence


def segment_mean(values: ArrayLike, offsets: Sequence[int]) -> Array:
    """Mean of the rows of each segment, 0 without rows."""
    rows = np.asarray(values, np.float64)
    means = np.zeros((len(offsets) - 1, *rows.shape[1:]))
    for s, (first, last) in enumerate(pairwise(offsets)):
        if first < last:
            means[s] = rows[first:last].sum(0) / (last - first)
    return means


def dispatch_by_expert(
    offsets: Sequence[int], expert_ids: Ids, num_experts: int, *, capacity: int | None = None
) -> tuple[Ids, Ids, Ids, Ids]:
    """Index, slot, offsets and position, as :class:`seqrec_fast.Dispatch` has them."""
    ids = expert_ids if expert_ids.ndim == 2 else expert_ids[:, None]
    k = ids.shape[1]
    slots: list[int] = []
    ends = [0]
    for expert in range(num_experts):
        for first, last in pairwise(offsets):
            found = [n * k + j for n in range(first, last) for j in range(k) if ids[n, j] == expert]
            slots += found if capacity is None else found[max(0, len(found) - capacity) :]
            ends.append(len(slots))
    slot = np.array(slots, np.int64)
    position = np.full(ids.size, -1, np.int64)
    position[slot] = np.arange(len(slot))
    return slot // max(k, 1), slot, np.array(ends, np.int64), position.reshape(ids.shape)


def dispatch_rows(values: ArrayLike, slot: Ids, weights: ArrayLike) -> Array:
    """Row i is the event of slot i times the weight (N, k) of that slot."""
    rows, factors = np.asarray(values, np.float64), np.asarray(weights, np.float64)
    return np.asarray(rows[slot // max(factors.shape[1], 1)] * factors.reshape(-1)[slot, None])


def combine_by_expert(dispatched: ArrayLike, position: Ids, weights: ArrayLike) -> Array:
    """Each event gets the weighted sum of its rows, 0 if it has none."""
    rows, factors = np.asarray(dispatched, np.float64), np.asarray(weights, np.float64)
    out = np.zeros((len(position), rows.shape[1]))
    for n, j in zip(*np.nonzero(position >= 0), strict=True):
        out[n] += factors[n, j] * rows[position[n, j]]
    return out


def grouped_linear(
    x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None, group_offsets: Sequence[int]
) -> Array:
    """Rows of group m times the transpose of weight m, plus bias m."""
    rows, matrices = np.asarray(x, np.float64), np.asarray(weight, np.float64)
    y = np.zeros((len(rows), matrices.shape[1]))
    for m, (first, last) in enumerate(pairwise(group_offsets)):
        y[first:last] = rows[first:last] @ matrices[m].T
        if bias is not None:
            y[first:last] += np.asarray(bias, np.float64)[m]
    return y


def multi_gate_mixture(expert_outputs: ArrayLike, gate_logits: ArrayLike) -> Array:
    """
    Softmax over the experts (last axis of (G, N, E)) times the outputs (E, N, D).

    Ma et al., 2018, "Modeling task relationships in multi-task learning with multi-gate
    mixture-of-experts". Logits that are all -inf give weights 0.
    """
    outputs, logits = np.asarray(expert_outputs, np.float64), np.asarray(gate_logits, np.float64)
    most = logits.max(-1, keepdims=True)
    share = np.exp(logits - np.where(most == -np.inf, 0.0, most))
    total = share.sum(-1, keepdims=True)
    share = np.divide(share, total, out=np.zeros_like(share), where=total != 0)
    return np.asarray(np.einsum("gne,end->gnd", share, outputs))
