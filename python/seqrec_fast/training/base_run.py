"""What the training runs of all models have in common: epochs, checkpoints, the best model."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from .averaging import EpochAverage
from .checkpoint import load_checkpoint, save_checkpoint
from .devices import device_of
from .distributed import Processes
from .running_loss import RunningLoss

Path = str | os.PathLike[str]

#: Trains on a mini-batch, the n-th of the run; returns the mean loss and over how many terms.
Update = Callable[[Any, int], tuple[Tensor | float, int]]


@dataclass(frozen=True)
class EpochResult:
    """
    One epoch.

    Attributes
    ----------
    epoch : int
        From 1.
    loss : float
        Mean training loss per event.
    seconds : float
        Time of training, without validation.
    metrics : dict
        Validation results by name; empty without validation.
    """

    epoch: int
    loss: float
    seconds: float
    metrics: dict[str, float]


@dataclass
class History:
    """
    What :meth:`Trainer.fit` did.

    Attributes
    ----------
    epochs : list of EpochResult
        Those before an interruption, too.
    best_epoch : int or None
        The epoch whose model was kept; None without validation: it is the last one.
    stopped_early : bool
    """

    epochs: list[EpochResult] = field(default_factory=list)
    best_epoch: int | None = None
    stopped_early: bool = False

    def best_value(self, monitor: str) -> float:
        """Return the monitored result of the best epoch, -inf if there is none yet."""
        return self.epochs[self.best_epoch - 1].metrics[monitor] if self.best_epoch else -math.inf


class TrainingRun:
    """All that changes while a model is trained, by one process or several.

    A subclass says what the mini-batches and optimisers are and what an update is. What these need
    is set before this class is initialised.

    Parameters
    ----------
    model : Module
    options : TrainingOptions or ClickThroughOptions
    data : sequence of arrays
        What is trained on, enough of it to tell it from other data.
    average_epochs : int
        See :class:`EpochAverage`.
    """

    #: The public function that messages begin with, and what it trains on.
    caller: str
    data_name: str

    def __init__(
        self, model: Any, options: Any, data: Iterable[NDArray[Any]], average_epochs: int = 1
    ) -> None:
        self.model, self.options = model, options
        self.device = device_of(self.caller, options.device, model)
        model.to(self.device)
        self.history = History()
        #: Epochs that the checkpoint holds.
        self.saved_epochs = 0
        self._best: dict[str, Tensor] | None = None
        self.average = EpochAverage(model, average_epochs)
        self._batches = self._make_batches()
        self._optimizers = self._make_optimizers()
        self._data = hashlib.blake2b(b"".join(array.tobytes() for array in data)).hexdigest()
        self.processes = Processes(model, self._identity(), self.caller)

    def _make_batches(self) -> Any:
        """Return an object whose length is the batches of an epoch, and ``epoch(rng)`` these."""
        raise NotImplementedError

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        raise NotImplementedError

    def _updates(self, rng: np.random.Generator, seed: int) -> Update:
        """Return what trains on the mini-batches of one epoch; `seed` is that of its dropout."""
        raise NotImplementedError

    def is_over(self) -> bool:
        """Return whether all epochs are done, or the best one is too long ago."""
        history, done = self.history, len(self.history.epochs)
        patience = self.options.patience
        if patience is not None and history.best_epoch is not None:
            history.stopped_early = done - history.best_epoch >= patience
        return history.stopped_early or done >= self.options.epochs

    def train_epoch(self, epoch: int, disable: bool | None) -> tuple[float, float]:
        """Pass over all batches; return the mean loss and the seconds."""
        # Randomness depends on seed and epoch alone: resuming needs no state of generators.
        seeds = np.random.SeedSequence([self.options.seed, epoch])
        # Order and negatives are the same in all processes; dropout must not repeat itself in them.
        states = seeds.generate_state(self.processes.size, np.uint64)
        dropout = int(states[self.processes.rank])
        torch.manual_seed(dropout)
        rng = np.random.default_rng(seeds)
        self.model.train()
        started = time.perf_counter()
        bar = tqdm(
            self._batches.epoch(rng), f"epoch {epoch}/{self.options.epochs}",
            len(self._batches), disable=True if self.processes.rank else disable, unit="batch",
            dynamic_ncols=True,
        )  # fmt: skip
        losses = RunningLoss(
            f"{self.caller}: the loss is {{}} in epoch {epoch}; a smaller lr than "
            f"{self.options.lr} may help"
        )
        update = self._updates(rng, dropout)
        for step, batch in enumerate(bar, (epoch - 1) * len(self._batches)):
            self._set_learning_rate(step)
            losses.add(*update(batch, step))
        return losses.mean(), time.perf_counter() - started

    def add(self, result: EpochResult) -> None:
        """Note an epoch, and its model if it is the best one."""
        history, monitor = self.history, self.options.monitor
        history.epochs.append(result)
        if result.metrics and result.metrics[monitor] > history.best_value(monitor):
            history.best_epoch = result.epoch
            self._best = {name: t.clone() for name, t in self.model.state_dict().items()}

    def finish(self) -> History:
        """Put the model in place: the best one, or that of the last epochs."""
        if self._best is not None:
            self.model.load_state_dict(self._best)
        else:
            self.average.put()
        return self.history

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        content = {
            **self._identity(),
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "history": asdict(self.history),
            "best": self._best,
            "past": self.average.state(),
        }
        save_checkpoint(path, content)

    def restore(self, path: Path) -> None:
        """Read a checkpoint of the same run."""
        content = self.processes.on_first(load_checkpoint, path)
        try:
            self._check_same(path, content)
            self._take(content)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"{self.caller}: {os.fspath(path)} is no checkpoint of this version, or damaged: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _check_same(self, path: Path, content: dict[str, Any]) -> None:
        """Raise ValueError for a checkpoint of another run."""
        for part, ours in self._identity().items():
            # files of older versions lack the kind
            theirs = content.get(part, ours) if part == "model_kind" else content[part]
            if isinstance(ours, str):
                ours, theirs = {part: ours}, {part: theirs}
            for name in ours.keys() - {"epochs", "patience", "device"}:
                if theirs.get(name) != ours[name]:
                    was, now = theirs.get(name), ours[name]
                    why = f"{name}={was}, not {now}"
                    if part == "model_kind":
                        why = f"a {was}; expected one of a {now}, the model to train"
                    elif part == "data":
                        why = f"other {self.data_name}"
                    raise ValueError(f"{self.caller}: {os.fspath(path)} was made with {why}")

    def _take(self, content: dict[str, Any]) -> None:
        """Go on from what a checkpoint holds."""
        model, optimizers, best = (content[key] for key in ("model", "optimizers", "best"))
        history, past = content["history"], content.get("past", [])
        epochs = [EpochResult(**epoch) for epoch in history["epochs"]]
        self.history = History(epochs, history["best_epoch"])
        self.saved_epochs = len(epochs)
        self.model.load_state_dict(model)
        for optimizer, state in zip(self._optimizers, optimizers, strict=True):
            optimizer.load_state_dict(state)
        self._best = best
        self.average.restore(past)

    def _identity(self) -> dict[str, Any]:
        return {
            "model_kind": type(self.model).__name__,
            "config": self.model.config,
            "options": asdict(self.options),
            "data": self._data,
        }

    def _set_learning_rate(self, step: int) -> None:
        options = self.options
        left = 1 - step / (options.epochs * len(self._batches)) if options.lr_decay else 1.0
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = options.lr * left
