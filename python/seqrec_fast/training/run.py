"""One training run: model, optimisers, batches and what has come of them so far."""

from __future__ import annotations

import hashlib
import math
import os
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from seqrec_fast.data import Sessions
from seqrec_fast.models import NextItemModel

from .averaging import EpochAverage
from .batches import Batch, Batches, SessionParallelBatches, WholeSessionBatches
from .checkpoint import load_checkpoint, save_checkpoint
from .devices import device_of
from .distributed import Processes, Share
from .losses import bpr_max_loss, cross_entropy, sampled_softmax_loss
from .negatives import Candidates, NegativeSampler
from .optimizers import RowOptimizer, make_optimizers
from .options import MAX_FULL_ITEMS, TrainingOptions
from .rows import RowLookups
from .running_loss import RunningLoss
from .session_step import SessionStep

Path = str | os.PathLike[str]


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


class Run:
    """All that changes while a model is trained, by one process or several."""

    def __init__(self, model: NextItemModel, options: TrainingOptions, train: Sessions) -> None:
        if options.carry_dropout and getattr(model, "projection", None) is not None:
            raise ValueError(
                "Trainer: carry_dropout is set, but the model projects its hidden state; expected "
                "a model whose embedding_dim is its hidden_size"
            )
        self.model, self.options = model, options
        self.device = device_of("Trainer.fit", options.device, model)
        model.to(self.device)
        self.history = History()
        self._best: dict[str, Tensor] | None = None
        self.average = EpochAverage(model, options.average_epochs)
        self._batches: Batches
        if options.batching == "whole-session":
            self._batches = WholeSessionBatches(
                train, options.batch_size, options.max_length, with_times=model.uses_times
            )
        else:
            self._batches = SessionParallelBatches(train, options.batch_size, options.bptt)
        self._sampler: NegativeSampler | None = None
        large = model.n_items > MAX_FULL_ITEMS
        if options.loss in ("sampled", "bpr-max") or (options.loss == "auto" and large):
            counts = np.bincount(train.items, minlength=model.n_items)
            self._sampler = NegativeSampler(
                counts, options.n_sample, options.alpha, options.logq, options.collisions
            )
        self._optimizers = make_optimizers(
            model, options.optimizer, options.lr, options.weight_decay, options.momentum,
            sparse=self._sampler is not None,
        )  # fmt: skip
        self._data = hashlib.blake2b(train.items.tobytes() + train.offsets.tobytes()).hexdigest()
        self.processes = Processes(model, self._identity())

    def is_over(self) -> bool:
        """Return whether all epochs are done, or the best one is too long ago."""
        history, done = self.history, len(self.history.epochs)
        patience = self.options.patience
        if patience is not None and history.best_epoch is not None:
            history.stopped_early = done - history.best_epoch >= patience
        return history.stopped_early or done >= self.options.epochs

    def train_epoch(self, epoch: int, disable: bool | None) -> tuple[float, float]:
        """Pass over all batches; return the mean loss per event and the seconds."""
        # Randomness depends on seed and epoch alone: resuming needs no state of generators.
        seeds = np.random.SeedSequence([self.options.seed, epoch])
        # Order and negatives are the same in all processes; dropout must not repeat itself in them.
        dropout = seeds.generate_state(self.processes.size, np.uint64)[self.processes.rank]
        torch.manual_seed(int(dropout))
        rng = np.random.default_rng(seeds)
        self.model.train()
        started = time.perf_counter()
        bar: Iterable[Batch] = tqdm(
            self._batches.epoch(rng), f"epoch {epoch}/{self.options.epochs}",
            len(self._batches), disable=True if self.processes.rank else disable, unit="batch",
            dynamic_ncols=True,
        )  # fmt: skip
        compiled = self._compiled_step()
        state: Any = None
        loss: Tensor | float
        losses = RunningLoss(
            f"Trainer.fit: the loss is {{}} in epoch {epoch}; a smaller lr than {self.options.lr} "
            "may help"
        )
        for step, batch in enumerate(bar, (epoch - 1) * len(self._batches)):
            self._set_learning_rate(step)
            if compiled is not None:
                carried = None if batch.reset is None else state
                seed = (int(dropout) + step) % 2**64
                state, loss = compiled(batch, carried, seed, rng)
            else:
                share = self.processes.share(batch, self.options.batch_size)
                state, loss = self._step(batch, share, state, rng)
            losses.add(loss, len(batch.items))
        return losses.mean(), time.perf_counter() - started

    def _compiled_step(self) -> SessionStep | None:
        """Return the step in one call, if it can do the work; gradients are sent one by one."""
        sampler, alone = self._sampler, self.processes.size == 1
        if sampler is None or not alone or not SessionStep.serves(self.model):
            return None
        (optimizer,) = self._optimizers
        assert isinstance(optimizer, RowOptimizer)
        return SessionStep(self.model, self.options, sampler, optimizer)

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
        for part, ours in self._identity().items():
            theirs = content[part]
            if isinstance(ours, str):
                ours, theirs = {part: ours}, {part: theirs}
            for name in ours.keys() - {"epochs", "patience", "device"}:
                if theirs.get(name) != ours[name]:
                    was, now = theirs.get(name), ours[name]
                    why = "other sessions" if part == "data" else f"{name}={was}, not {now}"
                    raise ValueError(f"Trainer.fit: {os.fspath(path)} was made with {why}")
        self.model.load_state_dict(content["model"])
        for optimizer, state in zip(self._optimizers, content["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self._best = content["best"]
        self.average.restore(content.get("past", []))
        history = content["history"]
        epochs = [EpochResult(**epoch) for epoch in history["epochs"]]
        self.history = History(epochs, history["best_epoch"])

    def _identity(self) -> dict[str, Any]:
        return {
            "config": self.model.config, "options": asdict(self.options), "data": self._data
        }  # fmt: skip

    def _set_learning_rate(self, step: int) -> None:
        options = self.options
        left = 1 - step / (options.epochs * len(self._batches)) if options.lr_decay else 1.0
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = options.lr * left

    def _step(
        self, batch: Batch, share: Share, state: Any, rng: np.random.Generator
    ) -> tuple[Any, Tensor]:
        """Update the parameters once; return the states after it and the loss.

        The states are those of this process, the loss is that of all.
        """
        model, sampler, own = self.model, self._sampler, share.batch.to(self.device)
        state = None if own.reset is None else _carried(state, len(own.offsets) - 1)
        times: dict[str, Any] = {} if own.times is None else {"times": own.times}
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        if sampler is None:
            inputs = functional.embedding(own.items, model.input_table)
            hidden, state = model.run(inputs, own.offsets, state, own.reset, **times)
            loss = cross_entropy(hidden, model.item_table, model.output.bias, own.targets)
            loss = _with_auxiliary(model, loss * share.weight, share.weight)
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            lookups = RowLookups()
            inputs = lookups.take(model.input_table, own.items)
            hidden, state = model.run(inputs, own.offsets, state, own.reset, **times)
            among = sampler.candidates(batch.targets, rng).of(share.events)
            loss = self._sampled_loss(hidden, among, lookups) / len(batch.items)
            loss = _with_auxiliary(model, loss, share.weight)
            loss.backward()  # type: ignore[no-untyped-call]
            lookups.set_gradients()
        value = self.processes.sum_gradients(model.parameters(), loss)
        for optimizer in self._optimizers:
            optimizer.step()
        if self.options.carry_dropout:
            state = self._dropped(state, hidden, own)
        return state, value

    def _sampled_loss(self, hidden: Tensor, among: Candidates, lookups: RowLookups) -> Tensor:
        options = self.options
        bpr_max, mask = options.loss == "bpr-max", options.collisions == "mask"
        if mask and not bpr_max:
            among = among.merged()
        among = among.to(self.device)
        weight = lookups.take(self.model.item_table, among.items, increasing=mask)
        bias = lookups.take(self.model.output.bias, among.items, increasing=mask)
        arguments = hidden, weight, among.targets, among.negatives, bias
        if bpr_max:
            return bpr_max_loss(
                *arguments, regularization=options.bpreg, elu=options.elu or None,
                collisions=options.collisions, reduction="sum",
            )  # fmt: skip
        return sampled_softmax_loss(
            *arguments,
            log_q=among.log_q,
            target_log_q=torch.zeros(len(hidden), device=self.device) if mask else None,
            collisions=options.collisions,
            reduction="sum",
        )

    def _dropped(self, state: Any, hidden: Tensor, batch: Batch) -> Any:
        """Return the state with dropout in all layers; that of the top one is in `hidden`."""
        h = state[0] if isinstance(state, tuple) else state
        share = self.model.config["dropout_hidden"]
        below = functional.dropout(h[:-1].detach(), share)
        h = torch.cat([below, hidden.detach()[None, batch.offsets[1:] - 1]])
        return (h, state[1]) if isinstance(state, tuple) else h


def _with_auxiliary(model: NextItemModel, loss: Tensor, weight: float) -> Tensor:
    auxiliary = model.auxiliary_loss()
    return loss if auxiliary is None else loss + auxiliary * weight


def _carried(state: Any, lanes: int) -> Any:
    """Return the state of the first lanes, cut off from its past."""
    if isinstance(state, tuple):
        return tuple(_carried(part, lanes) for part in state)
    return None if state is None else state[:, :lanes].detach()
