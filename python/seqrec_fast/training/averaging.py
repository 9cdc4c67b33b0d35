"""Means of parameters over epochs."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

States = dict[str, Tensor]


class EpochAverage:
    """
    The mean of a model's parameters after each of its last epochs.

    Stochastic weight averaging (Izmailov et al., 2018, arXiv:1803.05407): at a constant learning
    rate parameters walk around an optimum that their mean is closer to.

    Parameters
    ----------
    model : Module
    epochs : int
        How many; with 1 the model is left as it is.
    """

    def __init__(self, model: torch.nn.Module, epochs: int) -> None:
        self._model = model
        self._past: deque[States] = deque(maxlen=epochs)
        self._averages = epochs > 1

    def add(self) -> None:
        """Note the parameters: an epoch is over."""
        if self._averages:
            self._past.append({name: t.clone() for name, t in self._model.state_dict().items()})

    def put(self) -> None:
        """Give the model the mean."""
        if len(self._past) > 1:
            # the oldest first, so that the sum does not depend on what came before a resumption
            names = self._past[0]
            self._model.load_state_dict(
                {name: torch.stack([past[name] for past in self._past]).mean(0) for name in names}
            )

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Give the model the mean for a while."""
        self.put()
        try:
            yield
        finally:
            if len(self._past) > 1:
                self._model.load_state_dict(self._past[-1])

    def state(self) -> list[dict[str, Any]]:
        """Return what :meth:`restore` needs."""
        return list(self._past)

    def restore(self, state: list[dict[str, Any]]) -> None:
        """Go on where another run stood."""
        ours = self._model.state_dict()
        self._past.clear()
        self._past.extend({name: t.to(ours[name].device) for name, t in s.items()} for s in state)
