"""Negatives that all events of a mini-batch share, drawn by popularity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor


@dataclass(frozen=True)
class Candidates:
    """
    Items that stand for the catalogue in one mini-batch, each once.

    Attributes
    ----------
    items : (n,) int64 Tensor
        Increasing.
    labels : (events,) int64 Tensor
        Position among `items` of each event's target.
    offsets : (n,) float32 Tensor
        What to add to an item's score as a negative: the logarithm of how often it was drawn,
        minus the logQ correction.
    label_offsets : (events,) float32 Tensor
        The same for the target of each event, as its positive.
    """

    items: Tensor
    labels: Tensor
    offsets: Tensor
    label_offsets: Tensor


class NegativeSampler:
    """
    Draws the candidates of a mini-batch: its targets, and items by popularity.

    Every event has all of them as negatives, except its own target: GRU4Rec's in-batch and
    additional negatives. An item that comes up n times counts n times as a negative, and once
    as a positive, so that a sampled item that happens to be the target is no negative.

    Parameters
    ----------
    counts : (n_items,) array
        Number of events of each item.
    n_sample : int
        Items to draw in addition to the targets, with replacement.
    alpha : float
        An item is drawn with probability proportional to ``counts ** alpha``: 0 is uniform
        over the items that occur, 1 is popularity.
    logq : float
        1: negatives are weighted with the inverse of how often they are expected to be drawn,
        so that the loss estimates cross-entropy over the whole catalogue. 0: no correction.

    Raises
    ------
    ValueError
        If a parameter is out of range or no item has a count.
    """

    def __init__(
        self, counts: ArrayLike, n_sample: int = 2048, alpha: float = 0.5, logq: float = 1.0
    ) -> None:
        popularity = np.asarray(counts, dtype=np.float64)
        if popularity.ndim != 1 or not (popularity > 0).any() or (popularity < 0).any():
            raise ValueError(
                "NegativeSampler: counts must be one-dimensional, not negative, and not all 0"
            )
        if n_sample < 1:
            raise ValueError(f"NegativeSampler: n_sample is {n_sample}; expected at least 1")
        for name, value in (("alpha", alpha), ("logq", logq)):
            if not 0 <= value <= 1:
                raise ValueError(f"NegativeSampler: {name} is {value}; expected 0 to 1")
        weight = np.where(popularity > 0, popularity, 1.0) ** alpha * (popularity > 0)
        self.n_sample = n_sample
        self.logq = logq
        self.probability = weight / weight.sum()
        self._target_probability = popularity / popularity.sum()
        self._cumulative = np.cumsum(self.probability)
        self._cumulative /= self._cumulative[-1]

    def draw(self, rng: np.random.Generator) -> Tensor:
        """Return (n_sample,) int64 items."""
        drawn = np.searchsorted(self._cumulative, rng.random(self.n_sample), side="right")
        return torch.from_numpy(drawn.astype(np.int64))

    def candidates(self, targets: Tensor, rng: np.random.Generator) -> Candidates:
        """
        Return the candidates of a mini-batch.

        Parameters
        ----------
        targets : (events,) int64 Tensor
        rng : Generator
        """
        drawn = torch.cat([targets, self.draw(rng)]).numpy()
        items, inverse, count = np.unique(drawn, return_inverse=True, return_counts=True)
        offsets = np.log(count)
        if self.logq:
            expected = len(targets) * self._target_probability[items]
            expected += self.n_sample * self.probability[items]
            offsets -= self.logq * np.log(expected)
        labels = inverse[: len(targets)]
        return Candidates(
            torch.from_numpy(items),
            torch.from_numpy(labels),
            torch.from_numpy(offsets.astype(np.float32)),
            torch.zeros(len(targets)),
        )
