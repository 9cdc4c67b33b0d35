"""The training loop: epochs, early stopping, checkpoints."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import nullcontext

import numpy as np
import torch

from seqrec_fast._checks import check_items
from seqrec_fast.data import Sessions
from seqrec_fast.models import NextItemModel

from .base_run import EpochResult, History, Path, TrainingRun
from .evaluation import evaluate
from .options import TrainingOptions
from .run import Run


class TrainingInterrupted(KeyboardInterrupt):
    """Training was interrupted from the keyboard; the message says what is left of it."""


class Trainer:
    """
    Trains a model on sessions.

    Parameters
    ----------
    model : GRU4Rec or ThemeMixture
        Is trained as it stands; ``GRU4Rec(..., seed=0)`` fixes where it starts.
    options : TrainingOptions, optional

    Raises
    ------
    TypeError
        If the model does not score the next item.

    Examples
    --------
    >>> from seqrec_fast.data import simulate
    >>> from seqrec_fast.models import GRU4Rec
    >>> from seqrec_fast.training import Trainer, TrainingOptions
    >>> sessions = simulate(200, n_items=50, n_themes=5, n_categories=10).sessions
    >>> model = GRU4Rec(50, embedding_dim=16, hidden_size=16, seed=0)
    >>> len(Trainer(model, TrainingOptions(epochs=2)).fit(sessions).epochs)
    2
    """

    def __init__(self, model: NextItemModel, options: TrainingOptions | None = None) -> None:
        parts = ("run", "scores", "input_table", "item_table")
        if getattr(model, "task", None) == "click-through" or not has_parts(model, parts):
            raise TypeError(
                f"Trainer: model is {named(model)}; expected one that scores the next item, such "
                "as GRU4Rec (ClickThroughTrainer trains click-through models)"
            )
        self.model = model
        self.options = options or TrainingOptions()

    def fit(
        self,
        train: Sessions,
        valid: Sessions | None = None,
        *,
        valid_targets: str = "all",
        exclude_seen: bool = False,
        checkpoint: Path | None = None,
        resume: bool = False,
        progress: bool | None = False,
        on_epoch: Callable[[EpochResult], None] | None = None,
    ) -> History:
        """
        Train, and leave the model in evaluation mode.

        Data, options and seed fix the result bit for bit on one kind of machine or GPU, with any
        number of threads, also if training was interrupted and resumed. Meanwhile PyTorch's
        operators run on one thread; the library's have :func:`seqrec_fast.set_num_threads`. Order
        and negatives are the same on all devices, masks of dropout are not; a checkpoint resumes
        on another device than it was written on.

        In an initialised process group of :mod:`torch.distributed` all processes call this with the
        same arguments and train one model: each computes its share of every mini-batch, which
        together are those of a single process, and so are loss and results but for rounding.
        Masks of dropout differ between processes, so with dropout only their distribution is that
        of a single process. Process 0 alone validates, shows progress, writes the checkpoint and
        calls `on_epoch`. Checkpoints resume on any number of processes.

        Parameters
        ----------
        train : Sessions
        valid : Sessions, optional
            To validate with after each epoch. If there is a ``patience`` and this is None, the
            last sessions of `train` are taken out for it.
        valid_targets, exclude_seen
            As in :func:`evaluate`, for validation.
        checkpoint : path-like, optional
            File to write after each epoch.
        resume : bool
            Go on from `checkpoint`. Model, data and options must be those it was made with;
            ``epochs`` and ``patience`` may differ.
        progress : bool or None
            Show a progress bar; None: only on a terminal.
        on_epoch : callable, optional
            Is called with each EpochResult, after the checkpoint is written.

        Returns
        -------
        History

        Raises
        ------
        TrainingInterrupted
            On Ctrl-C; a ``KeyboardInterrupt``. It says which epoch the checkpoint holds.
        FloatingPointError
            If the loss is not finite.
        ValueError
            If an item is out of range, no session has two events, the device is missing, or the
            checkpoint belongs to another run.
        OSError
            If the checkpoint cannot be written or read.
        ConnectionError
            If another process failed or ended, or did not answer for 30 minutes.
        """
        if valid is None and self.options.patience is not None:
            train, valid = hold_out_last(train, self.options.validation)
        for sessions in (train,) if valid is None else (train, valid):
            check_items("Trainer.fit", sessions.items, self.model.n_items)
        run = Run(self.model, self.options, train)

        def validated(epoch: int, loss: float, seconds: float) -> EpochResult:
            metrics = {}
            if valid is not None:
                metrics = evaluate(
                    self.model, valid, (20,), targets=valid_targets,
                    exclude_seen=exclude_seen, coverage=False,
                )  # fmt: skip
            return EpochResult(epoch, loss, seconds, metrics)

        return complete(
            run, validated, checkpoint=checkpoint, resume=resume, progress=progress,
            on_epoch=on_epoch,
        )  # fmt: skip


def has_parts(model: object, names: Iterable[str]) -> bool:
    """Return whether a model has all attributes of these names."""
    return all(hasattr(model, name) for name in names)


def named(model: object) -> str:
    """Return the class of a model and, if there is one, its task, as messages have them."""
    task = getattr(model, "task", None)
    return f"a {type(model).__name__}" + ("" if task is None else f" for the task {task!r}")


def complete(
    run: TrainingRun,
    validated: Callable[[int, float, float], EpochResult],
    *,
    checkpoint: Path | None,
    resume: bool,
    progress: bool | None,
    on_epoch: Callable[[EpochResult], None] | None,
) -> History:
    """Train all epochs of a run; `validated` makes the result of epoch, loss and seconds."""
    on_first = run.processes.on_first

    def save() -> None:
        if checkpoint is not None:
            run.save(checkpoint)
            run.saved_epochs = len(run.history.epochs)
        if on_epoch is not None:
            on_epoch(run.history.epochs[-1])

    threads = torch.get_num_threads()
    gpus = [run.device.index] if run.device.type == "cuda" else []
    # PyTorch's sums depend on its number of threads; the kernels of this library have their own
    torch.set_num_threads(1)
    try:
        current = torch.cuda.device(run.device) if gpus else nullcontext()
        with current, torch.random.fork_rng(devices=gpus):
            if on_first(bool, resume):
                if checkpoint is None:
                    raise ValueError(f"{run.caller}: resume is True and checkpoint is None")
                run.restore(checkpoint)
            while not run.is_over():
                epoch = len(run.history.epochs) + 1
                loss, seconds = run.train_epoch(epoch, None if progress is None else not progress)
                run.average.add()
                with run.average.in_place():
                    run.add(on_first(validated, epoch, loss, seconds))
                on_first(save)
                run.saved_epochs = len(run.history.epochs)  # in the other processes, too
    except KeyboardInterrupt:
        raise TrainingInterrupted(_interrupted(run, checkpoint)) from None
    finally:
        torch.set_num_threads(threads)
        run.model.eval()
        run.processes.close()
    return run.finish()


def hold_out_last(sessions: Sessions, share: float) -> tuple[Sessions, Sessions]:
    """
    Split off the sessions that start last, without times those that stand last.

    Returns
    -------
    train, valid : Sessions

    Raises
    ------
    ValueError
        If that leaves no session in one of them.
    """
    ordered = sessions.sorted_by_start()
    n_valid = max(1, round(len(ordered) * share))
    if n_valid >= len(ordered):
        raise ValueError(
            f"hold_out_last: share {share} of {len(ordered)} sessions leaves none to train with"
        )
    numbers = np.arange(len(ordered))
    return ordered.select(numbers[:-n_valid]), ordered.select(numbers[-n_valid:])


def _interrupted(run: TrainingRun, checkpoint: Path | None) -> str:
    done, saved = len(run.history.epochs), run.saved_epochs
    if checkpoint is None:
        return f"training was interrupted in epoch {done + 1}; there is no checkpoint to go on from"
    when = f"in epoch {done + 1}" if saved == done else f"before epoch {done} was written"
    if not saved:
        return f"training was interrupted {when}; there is no checkpoint to go on from"
    return (
        f"training was interrupted {when}; {os.fspath(checkpoint)} holds epoch {saved}: resume "
        "from there"
    )
