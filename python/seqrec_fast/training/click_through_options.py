"""What the training of a click-through model is made of."""

from __future__ import annotations

from dataclasses import dataclass

from seqrec_fast._checks import check_choice

from .devices import check_device
from .option_checks import check_flags, check_numbers, check_sizes

MONITORS = ("auc", "gauc")


@dataclass(frozen=True)
class ClickThroughOptions:
    """
    Options of :class:`ClickThroughTrainer`.

    Attributes
    ----------
    epochs : int
        Passes over the training samples, at most.
    batch_size : int
        Samples in a mini-batch.
    max_length : int
        Longest history; of longer ones the newest events are kept.
    lr : float
        Learning rate of Adam at the start. Rows of the item embeddings that a mini-batch does not
        look up stay as they are, and so do their moments.
    weight_decay : float
        Share of the parameters, times the learning rate, that each update takes away.
    lr_decay : bool
        Lower the learning rate in equal steps to 0 at the end of the last epoch.
    patience : int, optional
        Stop after this many epochs without a better validation result, and take the best epoch.
        None: train all epochs.
    monitor : {"auc", "gauc"}
        The validation result that counts.
    validation : float
        Share of the training samples, the latest ones, to validate with if there is a
        ``patience`` and no validation data.
    seed : int
        Fixes order and dropout.
    device : {"auto", "cpu", "cuda", "cuda:N"}, optional
        As in :class:`TrainingOptions`.

    Raises
    ------
    ValueError
        If an option is out of range.
    TypeError
        If a size is no integer, another number none, or a choice or flag of another type.
    """

    epochs: int = 3
    batch_size: int = 256
    max_length: int = 100
    lr: float = 0.01
    weight_decay: float = 0.0
    lr_decay: bool = True
    patience: int | None = None
    monitor: str = "auc"
    validation: float = 0.1
    seed: int = 0
    device: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        name = type(self).__name__
        check_choice(name, "monitor", self.monitor, MONITORS)
        check_flags(self, ("lr_decay",))
        check_sizes(self, ("epochs", "batch_size", "max_length", "patience"))
        check_numbers(self, ("lr", "weight_decay", "validation"))
        if not self.lr > 0:
            raise ValueError(f"{name}: lr is {self.lr}; expected more than 0")
        if not self.weight_decay >= 0:
            raise ValueError(f"{name}: weight_decay is {self.weight_decay}; expected 0 or more")
        if not 0 < self.validation < 1:
            raise ValueError(f"{name}: validation is {self.validation}; expected between 0 and 1")
        check_device(name, self.device)
