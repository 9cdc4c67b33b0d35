"""Sums and softmax over the segments of an array."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def segment_sums(values: Floats, offsets: Ints) -> Floats:
    """Return the (S, ...) sums of segments ``values[offsets[s]:offsets[s + 1]]``, 0 for none."""
    return _reduced(np.add, values, offsets)


def segment_means(values: Floats, offsets: Ints) -> Floats:
    """Return the (S, d) means of the rows of segments, 0 for an empty one."""
    lengths = np.maximum(np.diff(offsets), 1).astype(values.dtype)
    return np.asarray(segment_sums(values, offsets) / lengths[:, None])


def segment_softmax(scores: Floats, offsets: Ints) -> Floats:
    """Return the softmax of (N,) scores over each segment."""
    lengths = np.diff(offsets)
    powers = np.exp(scores - np.repeat(_reduced(np.maximum, scores, offsets), lengths))
    return np.asarray(powers / np.repeat(segment_sums(powers, offsets), lengths))


def _reduced(operation: np.ufunc, values: Floats, offsets: Ints) -> Floats:
    # reduceat takes an empty segment for one of a single row
    result = np.zeros((len(offsets) - 1, *values.shape[1:]), values.dtype)
    filled = np.diff(offsets) > 0
    if filled.any():
        result[filled] = operation.reduceat(values, offsets[:-1][filled], axis=0)
    return result
