"""The mean loss of an epoch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Losses on a GPU that are read together: to read one is to wait for all that is queued.
_READ_TOGETHER = 32


class RunningLoss:
    """
    Sums the losses of mini-batches, in their order, and raises if one is not finite.

    Parameters
    ----------
    where : str
        Such as ``"Trainer.fit: the loss is {} in epoch 3"``.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._total, self._events = 0.0, 0
        self._unread: list[tuple[Tensor, int]] = []

    def add(self, loss: Tensor | float, events: int) -> None:
        """
        Add the mean loss of a mini-batch.

        Raises
        ------
        FloatingPointError
            If it is not finite; for losses on a GPU some mini-batches later.
        """
        if not isinstance(loss, Tensor):
            self._add(loss, events)
            return
        self._unread.append((loss.detach(), events))
        if not loss.is_cuda or len(self._unread) == _READ_TOGETHER:
            self._read()

    def mean(self) -> float:
        """Return the mean over all events."""
        self._read()
        return self._total / self._events

    def _read(self) -> None:
        if self._unread:
            values = torch.stack([loss for loss, _ in self._unread]).tolist()
            for value, (_, events) in zip(values, self._unread, strict=True):
                self._add(value, events)
            self._unread.clear()

    def _add(self, value: float, events: int) -> None:
        if not math.isfinite(value):
            raise FloatingPointError(self._where.format(value))
        self._total += value * events
        self._events += events
