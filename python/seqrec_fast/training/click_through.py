"""Training and evaluation of click-through models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from seqrec_fast.data import ClickBatch, ClickSamples
from seqrec_fast.evaluation import check_click_items, click_through_metrics

from .base_run import EpochResult, History, Path, TrainingRun, Update
from .click_through_options import ClickThroughOptions
from .devices import moved
from .optimizers import RowOptimizer
from .trainer import complete, has_parts, named


class ClickThroughModule(Protocol):
    """What is asked of a model: those of :mod:`seqrec_fast.models` have it.

    ``model(items, offsets, target, times)`` returns the (B,) logits of a click on ``target[b]``
    after history b; ``auxiliary_loss()`` what the last call adds to the loss, or None. With
    `embedding` a table of the items of which a step changes the rows that it looks up.
    """

    config: dict[str, Any]
    embedding: torch.nn.Embedding

    @property
    def n_items(self) -> int:
        """Size of the catalogue."""
        ...

    def auxiliary_loss(self) -> Tensor | None:
        """Return what the last call adds to the loss."""
        ...

    def __call__(
        self, items: Tensor, offsets: Tensor, target: Tensor, times: Tensor | None = None
    ) -> Tensor:
        """Return the logits."""
        ...


class ClickThroughTrainer:
    """
    Trains a click-through model on binary cross-entropy.

    Parameters
    ----------
    model : Module
        Of :mod:`seqrec_fast.models`: DIN, DIEN, RecurrentCTR; or one with the same call. Is
        trained as it stands; ``DIN(..., seed=0)`` fixes where it starts.
    options : ClickThroughOptions, optional

    Raises
    ------
    TypeError
        If the model does not tell of clicks.

    Examples
    --------
    >>> from seqrec_fast.data import sampled_clicks, simulate
    >>> from seqrec_fast.models import DIN
    >>> from seqrec_fast.training import ClickThroughOptions, ClickThroughTrainer
    >>> sessions = simulate(200, n_items=50, n_themes=5, n_categories=10).sessions
    >>> samples = sampled_clicks(sessions, n_items=50)
    >>> trainer = ClickThroughTrainer(DIN(50, seed=0), ClickThroughOptions(epochs=2))
    >>> len(trainer.fit(samples).epochs)
    2
    """

    def __init__(self, model: Any, options: ClickThroughOptions | None = None) -> None:
        parts = ("config", "embedding", "n_items", "auxiliary_loss")
        if getattr(model, "task", None) == "next-item" or not has_parts(model, parts):
            raise TypeError(
                f"ClickThroughTrainer: model is {named(model)}; expected one for click-through, "
                "such as DIN (Trainer trains models of the next item)"
            )
        self.model = model
        self.options = options or ClickThroughOptions()

    def fit(
        self,
        train: ClickSamples,
        valid: ClickSamples | None = None,
        *,
        checkpoint: Path | None = None,
        resume: bool = False,
        progress: bool | None = False,
        on_epoch: Callable[[EpochResult], None] | None = None,
    ) -> History:
        """
        Train, and leave the model in evaluation mode.

        Seeds, threads, several processes, checkpoints and interruption are as in
        :meth:`Trainer.fit`.

        Parameters
        ----------
        train : ClickSamples
        valid : ClickSamples, optional
            To validate with after each epoch. If there is a ``patience`` and this is None, the
            latest samples of `train` are taken out for it.
        checkpoint, resume, progress, on_epoch
            As in :meth:`Trainer.fit`.

        Returns
        -------
        History

        Raises
        ------
        TrainingInterrupted, FloatingPointError, OSError, ConnectionError
            As :meth:`Trainer.fit`.
        ValueError
            If an item is out of range, there is no sample, labels to validate with are all the
            same, or the checkpoint belongs to another run.
        """
        options = self.options
        if valid is None and options.patience is not None:
            train, valid = train.hold_out_latest(options.validation)
        for samples in (train,) if valid is None else (train, valid):
            check_click_items("ClickThroughTrainer.fit", samples, self.model.n_items)
        if len(train) == 0:
            raise ValueError("ClickThroughTrainer.fit: train has no samples")

        def validated(epoch: int, loss: float, seconds: float) -> EpochResult:
            metrics = {}
            if valid is not None:
                metrics = evaluate_click_through(self.model, valid, max_length=options.max_length)
            return EpochResult(epoch, loss, seconds, metrics)

        try:
            run = _ClickThroughRun(self.model, options, train)
            return complete(
                run, validated, checkpoint=checkpoint, resume=resume, progress=progress,
                on_epoch=on_epoch,
            )  # fmt: skip
        finally:
            self.model.embedding.sparse = False


def evaluate_click_through(
    model: Any,
    samples: ClickSamples,
    *,
    batch_size: int = 1024,
    max_length: int | None = None,
) -> dict[str, float]:
    """
    Return AUC, GAUC and log-loss of a click-through model.

    Parameters
    ----------
    model : Module
        As of :class:`ClickThroughTrainer`.
    samples : ClickSamples
    batch_size : int
        Samples that run through the network together.
    max_length : int, optional
        Longest history; of longer ones the newest events are kept.

    Returns
    -------
    dict
        ``{"auc": ..., "gauc": ..., "log_loss": ...}``; GAUC is over users, and NaN where none
        has both labels.

    Raises
    ------
    ValueError
        If an item is out of range, all labels are the same, or a logit is NaN.
    """
    check_click_items("evaluate_click_through", samples, model.n_items)
    training, device = model.training, model.embedding.weight.device
    model.eval()
    logits = []
    try:
        with torch.no_grad():
            for batch in samples.batches(batch_size, max_length):
                logits.append(model(*_tensors(batch, device)).double().cpu().numpy())
    finally:
        model.train(training)
    return click_through_metrics(samples, np.concatenate(logits) if logits else [])


def _tensors(
    batch: ClickBatch, device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    times = None if batch.times is None else torch.from_numpy(batch.times)
    items, offsets, targets = map(torch.from_numpy, (batch.items, batch.offsets, batch.targets))
    return tuple(moved(t, device) for t in (items, offsets, targets, times))  # type: ignore[return-value]


class _Epochs:
    """The mini-batches of a run; ``len()`` is their number in an epoch."""

    def __init__(self, samples: ClickSamples, batch_size: int, max_length: int) -> None:
        self.samples, self.batch_size, self.max_length = samples, batch_size, max_length

    def __len__(self) -> int:
        return -(-len(self.samples) // self.batch_size)

    def epoch(self, rng: np.random.Generator) -> Any:
        return self.samples.batches(self.batch_size, self.max_length, rng)


class _ClickThroughRun(TrainingRun):
    """All that changes while a click-through model is trained."""

    caller = "ClickThroughTrainer.fit"
    data_name = "samples"

    def __init__(
        self, model: ClickThroughModule, options: ClickThroughOptions, train: ClickSamples
    ) -> None:
        self._train = train
        data = (train.histories.items, train.users, train.seen, train.targets, train.labels)
        super().__init__(model, options, data)

    def _make_batches(self) -> _Epochs:
        return _Epochs(self._train, self.options.batch_size, self.options.max_length)

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        model, options = self.model, self.options
        table = model.embedding.weight
        # a step then touches the rows that it looks up, however large the catalogue is
        model.embedding.sparse = True
        others = [p for p in model.parameters() if p is not table]
        return [
            RowOptimizer([table], "adam", options.lr, options.weight_decay),
            torch.optim.AdamW(others, lr=options.lr, weight_decay=options.weight_decay),
        ]

    def _updates(self, rng: np.random.Generator, seed: int) -> Update:
        return lambda batch, step: (self._update(batch), len(batch.targets))

    def _update(self, batch: ClickBatch) -> Tensor:
        """Update the parameters once; return the mean loss over the samples of all processes."""
        for optimizer in self._optimizers:
            optimizer.zero_grad()
        offsets, n = batch.offsets, len(batch.targets)
        # this process's share of the samples, neighbours
        begin, end = (
            n * r // self.processes.size for r in (self.processes.rank, self.processes.rank + 1)
        )
        events = slice(int(offsets[begin]), int(offsets[end]))
        own = ClickBatch(
            batch.items[events], offsets[begin : end + 1] - offsets[begin],
            None if batch.times is None else batch.times[events],
            batch.targets[begin:end], batch.labels[begin:end],
        )  # fmt: skip
        logits = self.model(*_tensors(own, self.device))
        labels = moved(torch.from_numpy(own.labels), self.device).to(logits.dtype)
        loss = functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / n
        if (added := self.model.auxiliary_loss()) is not None:
            loss = loss + added * ((end - begin) / n)
        loss.backward()  # type: ignore[no-untyped-call]
        value = self.processes.sum_gradients(self.model.parameters(), loss)
        for optimizer in self._optimizers:
            optimizer.step()
        return value
