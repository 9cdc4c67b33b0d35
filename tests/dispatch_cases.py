"""Ragged batches and choices of experts for the tests of dispatch."""

from __future__ import annotations

import numpy as np

# Lengths of sequences, experts, choices.
CASES = [
    ([], 3, 1),
    ([0], 1, 1),
    ([0, 5, 0, 1, 17, 0], 4, 1),
    ([9, 0, 40], 3, 2),
    ([1] * 40, 7, 3),
    ([600], 2, 1),
    ([3, 4], 50, 5),
]


def offsets_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def choices(rng, n, num_experts, k, empty=0.2):
    """Distinct experts for each event, some of them -1; expert 1 gets none."""
    ids = np.argsort(rng.random((n, num_experts)), axis=1)[:, :k].astype(np.int64)
    ids[rng.random(ids.shape) < empty] = -1
    ids[ids == 1] = -1
    return ids


def case(rng, lengths, num_experts, k):
    offsets = offsets_of(lengths)
    return offsets, choices(rng, int(offsets[-1]), num_experts, k)
